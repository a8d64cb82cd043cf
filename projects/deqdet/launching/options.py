"""``--cfg-options``: reads values as mmengine does, and reports errors in one line."""

import argparse
import ast
import os.path as osp
import re
from typing import Any, Iterable, List, Optional

from mmengine.config import Config, DictAction

from ..errors import UsageError
from ..shipped import find_config

_BRACKETS = {')': '(', ']': '['}
# For deeper lists mmengine is slow, and then reaches Python's limit.
_DEEPEST = 30
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
    fault = _bracket_fault(text, bare)
    if fault:
        raise UsageError(f'{name}={_short(text)}: {fault}', 'bad-cfg-option')
    try:
        value = ast.literal_eval(bare) if listed else None
        if isinstance(value, (list, tuple)):
            return value
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass  # texts without quotes
    if re.search(r'[^\s,(\[]\s+[^\s,)\]]', bare):
        raise UsageError(f'{name}={text}: put quotes around texts with spaces, as in '
                         f'"{key}=[\'traffic light\', \'car\']"', 'bad-cfg-option')
    try:
        return _read_by_mmengine(bare)
    except (AssertionError, RecursionError):
        raise UsageError(f'{name}={_short(text)}: this list cannot be read: write KEY="[a,b]", or '
                         'KEY="[(a,b),(c,d)]" for nested lists', 'bad-cfg-option') from None


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
        value = _expression(ast.parse(text, mode='eval').body, text)
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


def check_places(cfg: Config, keys: Iterable[str]) -> None:
    """Check that the config has a place for each key.

    Args:
        cfg (Config): The config.
        keys (Iterable[str]): Dotted keys of options.

    Raises:
        UsageError: If a key leads to a list entry that does not exist, or into a value without parts.
    """
    for key in keys:
        part: Any = cfg
        above = 'the config'
        for word in key.split('.'):
            if isinstance(part, list):
                if not word.isdigit() or int(word) >= len(part):
                    entries = f'entries 0 to {len(part) - 1}' if part else 'no entries'
                    raise UsageError(f'--cfg-options {key}: {above} is a list with {entries}, so {word!r} '
                                     'does not exist', 'bad-cfg-option')
                part = part[int(word)]
            elif isinstance(part, (dict, Config)):
                if word not in part:
                    break  # a new part
                part = part[word]
            else:
                raise UsageError(f'--cfg-options {key}: {above} is {_short(repr(part))} and has no part '
                                 f'{word!r}: set {above} itself, in a config file if it is a dict',
                                 'bad-cfg-option')
            above = f'{above}.{word}'.replace('the config.', '')


def _read_by_mmengine(text: str) -> Any:
    namespace = argparse.Namespace()
    DictAction([], 'options')(argparse.ArgumentParser(), namespace, [f'value={text}'])
    return namespace.options['value']


def _bracket_fault(text: str, bare: str) -> str:
    opened = []
    for letter in bare:
        if letter in '([':
            opened.append(letter)
            if len(opened) > _DEEPEST:
                return f'this list is nested more than {_DEEPEST} times'
        elif letter in _BRACKETS and (not opened or opened.pop() != _BRACKETS[letter]):
            return 'its brackets do not match'
    if opened:
        return 'its brackets do not match'
    return 'a quote is missing' if text[:1] in ('"', "'") and text[-1:] != text[:1] else ''


def _expression(node: ast.expr, text: str) -> str:
    """A part of a value as Python code, with quotes around texts."""

    def several(nodes: Iterable[ast.expr]) -> str:
        return ', '.join(_expression(each, text) for each in nodes)

    if isinstance(node, ast.List):
        return f'[{several(node.elts)}]'
    if isinstance(node, ast.Tuple):
        return f'({several(node.elts)}{"," * (len(node.elts) == 1)})'
    if isinstance(node, ast.Dict):
        pairs = [(key, value) for key, value in zip(node.keys, node.values) if key is not None]
        return '{' + ', '.join(f'{several([key])}: {several([value])}' for key, value in pairs) + '}'
    if isinstance(node, ast.Call) and not node.args and all(each.arg for each in node.keywords):
        return 'dict(' + ', '.join(f'{each.arg}={_expression(each.value, text)}'
                                   for each in node.keywords) + ')'
    try:
        return repr(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        word = ast.get_source_segment(text, node) or ''
        return repr(_WORDS.get(word, word))


def _short(text: str, longest: int = 80) -> str:
    return text if len(text) <= longest else f'{text[:longest]}...'
