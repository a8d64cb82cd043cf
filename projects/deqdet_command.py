"""The command ``deqdet``: lists and runs the commands, wherever the package is installed.

This file is outside of the package, so that listing the commands does not import torch and mmdet.
"""

import ast
import importlib
import importlib.util
import os
import re
import sys
import types
from difflib import get_close_matches
from pathlib import Path
from typing import Iterator, List, NamedTuple, NoReturn

from deqdet_path import installed_first


class Command(NamedTuple):
    """A module below ``deqdet.commands`` with a ``main``, or a shell script below ``tools``."""

    folder: str  # folder of the file; empty at the top
    name: str  # file name without extension
    path: Path
    summary: str  # one line


def main() -> None:
    """Run ``deqdet [FOLDER] COMMAND ...`` with the words of the command line."""
    words = sys.argv[1:]
    found = list(find_commands())
    if words and words[0] in {command.folder for command in found if command.folder}:
        folder = words.pop(0)
        found = [command for command in found if command.folder == folder]
    if not words or words[0] in ('-h', '--help', 'help'):
        try:
            print(_listing(found), flush=True)
        except BrokenPipeError:  # `deqdet --help | head`; Python would report it again when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if words[0] == '--version':
        code = (_package() / 'version.py').read_text(encoding='utf-8')
        print('deqdet', re.findall(r"^__version__ = '(.+)'", code, re.MULTILINE)[0])
        return
    command = _choose(found, words[0])
    sys.argv = [f'deqdet {command.name}', *words[1:]]
    installed_first()
    if command.path.suffix == '.sh':
        os.environ.setdefault('PYTHON', sys.executable)
        os.execvp('bash', ['bash', str(command.path), *words[1:]])
    run_command('.'.join(filter(None, (command.folder, command.name))))


def find_commands() -> Iterator[Command]:
    """All commands: the modules, and scripts that start one of them with many workers."""
    folder = _package() / 'commands'
    names = set()
    for path in [*sorted(folder.glob('*.py')), *sorted(folder.glob('*/*.py'))]:
        if path.stem != '__init__':
            names.add(path.stem)
            words = ast.get_docstring(ast.parse(path.read_bytes())) or ''
            yield Command('' if path.parent == folder else path.parent.name, path.stem, path,
                          words.split('\n')[0].rstrip('.'))
    # The scripts are in the checkout or, after installation from a wheel, in the package, as in mmdet.
    tools = _package() / '.mim' / 'tools'
    for path in sorted((tools if tools.is_dir() else _package().parents[1] / 'tools').glob('*.sh')):
        if path.stem.partition('_')[2] in names:
            yield Command('', path.stem, path, path.read_text(encoding='utf-8').split('\n')[1].strip('# .'))


def run_command(name: str) -> None:
    """Run a command as ``python -m deqdet.commands.NAME`` does, but keep the name in ``sys.argv``.

    A command that imports nothing from the package runs without it, so without torch and mmdet.

    Args:
        name (str): Module of the command below ``deqdet.commands``.
    """
    path = _package().joinpath('commands', *name.split('.')).with_suffix('.py')
    full = f'deqdet.commands.{name}'
    code = ast.parse(path.read_bytes())
    module = types.ModuleType('__main__')
    module.__file__, module.__package__ = str(path), full.rpartition('.')[0]
    # Spawned loader workers import the module by the name in its spec.
    module.__spec__ = importlib.util.spec_from_file_location(full, path)
    if any(isinstance(part, ast.ImportFrom) and part.level for part in code.body):
        # Import the package before mmdet: it makes mmdet importable where mmcv has no operators.
        importlib.import_module(module.__package__)
    sys.modules['__main__'] = module
    exec(compile(code, str(path), 'exec'), module.__dict__)


def _package() -> Path:
    """Folder of the package; the package is not imported."""
    spec = importlib.util.find_spec('deqdet')
    if spec is None or spec.origin is None:
        _fail('the package deqdet is not installed')
    return Path(spec.origin).resolve().parent


def _choose(commands: List[Command], word: str) -> Command:
    name = word.replace('-', '_')
    same = [command for command in commands if command.name == name]
    if same:
        return same[0]  # commands at the top come first
    near = get_close_matches(name, [command.name for command in commands], n=1)
    _fail(f'unknown command {word!r}{f" (did you mean {near[0]!r}?)" if near else ""}: `deqdet --help` lists '
          'all commands')


def _listing(commands: List[Command]) -> str:
    width = max(len(command.name) for command in commands)
    lines = ['usage: deqdet [FOLDER] COMMAND ...', '       deqdet COMMAND --help', '       deqdet --version']
    for folder in dict.fromkeys(command.folder for command in commands):
        lines += ['', f'{folder} (you may leave this word out):' if folder else 'commands:']
        lines += [f'  {command.name:{width}}  {command.summary}' for command in commands
                  if command.folder == folder]
    return '\n'.join(lines)


def _fail(message: str) -> NoReturn:
    print(f'error: {message}', file=sys.stderr)
    sys.exit(2)
