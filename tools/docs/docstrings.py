"""Griffe extension: turns the reStructuredText of docstrings into Markdown."""

import re

import griffe

_ROLE = re.compile(r':(?:func|class|meth|mod|attr|data|obj):`~?([^`]+)`')
# A role in the type of an argument, in mmdet's style.
_TYPE = re.compile(r'^(?P<before> *[\w, *]+ \(.*?):obj:`~?(?P<name>[^`]+)`', re.MULTILINE)
# The mark before an indented block. Alone on a line, it is removed.
_LITERAL = re.compile(r'(?P<text>[^\s:])?::$', re.MULTILINE)


class Markdown(griffe.Extension):
    """Turns roles into code and removes marks of literal blocks, which Markdown finds by indentation."""

    def on_instance(self, *, obj, **_):
        """Convert the docstring of every module, class, function and attribute."""
        if obj.docstring:
            text = _TYPE.sub(r'\g<before>\g<name>', obj.docstring.value)
            text = _ROLE.sub(r'`\1`', text)
            obj.docstring.value = _LITERAL.sub(lambda mark: f'{mark["text"]}:' if mark['text'] else '', text)
