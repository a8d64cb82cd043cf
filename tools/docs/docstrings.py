"""Extension of griffe: what docstrings have of reStructuredText, said in Markdown."""

import re

import griffe

_ROLE = re.compile(r':(?:func|class|meth|mod|attr|data|obj):`~?([^`]+)`')
# In the type of an argument, as mmdet writes them.
_TYPE = re.compile(r'^(?P<before> *[\w, *]+ \(.*?):obj:`~?(?P<name>[^`]+)`', re.MULTILINE)
# Before an indented block; on a line of its own it leaves nothing.
_LITERAL = re.compile(r'(?P<text>[^\s:])?::$', re.MULTILINE)


class Markdown(griffe.Extension):
    """Roles become code, and the mark of a literal block, which Markdown knows by its indentation, goes."""

    def on_instance(self, *, obj, **_):
        """Called for every module, class, function and attribute that is read."""
        if obj.docstring:
            text = _TYPE.sub(r'\g<before>\g<name>', obj.docstring.value)
            text = _ROLE.sub(r'`\1`', text)
            obj.docstring.value = _LITERAL.sub(lambda mark: f'{mark["text"]}:' if mark['text'] else '', text)
