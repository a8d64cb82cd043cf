"""``--cfg-options``: reads values as mmengine does, and reports errors in one line."""

import argparse
import ast
import os.path as osp
import re
from typing import Any, List, Optional

from mmengine.config import DictAction

from ..errors import UsageError
from ..shipped import find_config

_WORDS = dict(true=True, false=False, null=None)
# Start of a dictionary that is a value or an entry of a list.
_DICTIONARY = re.compile(r'(^|[\[(,])\s*(dict\s*\(|\{)')


class Options(DictAction):
    """mmengine's KEY=VALUE options. A bad key or value is a usage error, not a traceback."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: Any, option_string: Optional[str] = None) -> None:
        """Read the words after the option.

        Raises:
            UsageError: If one of them cannot be read.
        """
        options = dict(getattr(namespace, self.dest, None) or {})
        for word in values:
            key, equals, text = word.partition('=')
            if not equals or not key:
                parser.error(f'{option_string}: {word!r} is not of the form KEY=VALUE, without spaces around '
                             '=')
            options[key] = read_option(key, text, config=getattr(namespace, 'config', None))
        setattr(namespace, self.dest, options)


def read_option(key: str, text: str, *, config: Optional[str] = None) -> Any:
    """The value of an option.

    Args:
        key (str): Its dotted key.
        text (str): The text after the ``=``.
        config (str, optional): The config file, for the message.

    Returns:
        Any: Number, truth value, None, text, or a list or tuple of them, as mmengine reads it. A text keeps
            its spaces, and a list with quoted texts is read as in Python.

    Raises:
        UsageError: If the key or the value cannot be read, or the value holds a dictionary.
    """
    name = f'--cfg-options {key}'
    if not all(key.split('.')) or re.search(r'\s', key):
        raise UsageError(f'{name}={text}: {key!r} is not a key: use names and numbers with dots between '
                         'them, without spaces', 'bad-cfg-option')
    text = text.strip()
    bare = text.strip('\'"')
    if _DICTIONARY.search(bare) and bare[-1] in '})]':
        lines = '; '.join(config_lines(key, bare, config=config))
        raise UsageError(f'{name}: dictionaries belong in a config file: write a file with the line '
                         f'`{lines}`, and use it in place of the config', 'bad-cfg-option')
    listed = bare[:1] in ('[', '(')
    if not listed and ',' not in bare:
        return bare if ' ' in bare else _read_by_mmengine(bare)
    if not listed and re.fullmatch(r'''(["']).*\1''', text):
        return bare  # the quotes keep a text with commas, such as the name of a file, in one piece
    try:
        value = ast.literal_eval(bare) if listed else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # texts without quotes
        value = None
    if not isinstance(value, (list, tuple)):
        if re.search(r'[^\s,(\[]\s+[^\s,)\]]', bare):
            raise UsageError(f'{name}={text}: put quotes around texts with spaces, as in '
                             f'"{key}=[\'traffic light\', \'car\']"', 'bad-cfg-option')
        try:
            value = _read_by_mmengine(bare)
        except (AssertionError, RecursionError):
            value = None
    if not isinstance(value, (list, tuple)) or text[0] in '"\'' and text[-1] != text[0]:
        raise UsageError(f'{name}={shortened(text)}: this list cannot be read: its brackets do not match, or '
                         'a quote is missing; write KEY="[a,b]", or KEY="[(a,b),(c,d)]" for nested lists',
                         'bad-cfg-option')
    return value


def config_lines(key: str, text: str, *, config: Optional[str] = None) -> List[str]:
    """Lines of a config file that set what an option would set.

    Args:
        key (str): Dotted key.
        text (str): The value, with or without the quotes that a shell removes.
        config (str, optional): The config file to begin with.

    Returns:
        list[str]: The lines. They may be joined into one with ``;``.
    """
    try:
        base = osp.abspath(find_config(config)) if config else 'CONFIG.py'
    except (UsageError, OSError):
        base = str(config)
    lines = [f'_base_ = {base!r}']
    try:
        value = ast.unparse(_Quoting(text).visit(ast.parse(text, mode='eval').body))
    except (SyntaxError, RecursionError, MemoryError, ValueError):
        value = '...'
    first, *parts = key.split('.')
    if any(part.isdigit() for part in parts):
        # A list in a config file replaces that of the base, so these lines change the base's own list.
        place = ''.join(f'[{part}]' if part.isdigit() else f'[{part!r}]' for part in parts)
        return [*lines, f'{first} = _base_.{first}', f'{first}{place} = {value}']
    for part in reversed(parts):
        value = f'dict({part}={value})' if part.isidentifier() else f'{{{part!r}: {value}}}'
    return [*lines, f'{first} = {value}']


def _read_by_mmengine(text: str) -> Any:
    namespace = argparse.Namespace()
    DictAction([], 'options')(argparse.ArgumentParser(), namespace, [f'value={text}'])
    return namespace.options['value']


class _Quoting(ast.NodeTransformer):
    """Puts quotes around all words of a value that are no Python values."""

    def __init__(self, text: str) -> None:
        self._text = text

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the node with quotes; lists, tuples and dictionaries stay."""
        if isinstance(node, (ast.List, ast.Tuple, ast.Dict, ast.expr_context)):
            return self.generic_visit(node)
        if isinstance(node, ast.Call) and not node.args and all(each.arg for each in node.keywords):
            for each in node.keywords:
                each.value = self.visit(each.value)  # type: ignore[assignment]
            return node
        try:
            return ast.Constant(ast.literal_eval(node))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            word = ast.get_source_segment(self._text, node) or ''
            return ast.Constant(_WORDS.get(word, word))


def shortened(text: str, longest: int = 80) -> str:
    """A text for a message, at most so long."""
    return text if len(text) <= longest else f'{text[:longest]}...'
