"""The command ``deqdet``: the tools, wherever the package was installed.

Beside the package, not in it: what lists commands need not wait for torch and mmdet to be imported.
"""

import ast
import importlib.util
import os
import re
import sys
import types
from difflib import get_close_matches
from pathlib import Path
from typing import Iterator, List, NamedTuple, NoReturn

from deqdet_path import installed_first


class Tool(NamedTuple):
    """A program below ``tools``.

    Attributes:
        folder (str): Its folder there; empty for ``tools`` itself.
        name (str): Its name without ending.
        path (Path): The file: Python, or a shell script.
        summary (str): What it does, one line.
    """

    folder: str
    name: str
    path: Path
    summary: str


def main() -> None:
    """Run ``deqdet [FOLDER] COMMAND ...`` with the words of the command line."""
    words = sys.argv[1:]
    found = list(find_tools())
    folders = {tool.folder for tool in found if tool.folder}
    if words and words[0] in folders:
        folder = words.pop(0)
        found = [tool for tool in found if tool.folder == folder]
    if not words or words[0] in ('-h', '--help', 'help'):
        try:
            print(_listing(found), flush=True)
        except BrokenPipeError:  # of `deqdet --help | head`; Python would say so again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if words[0] == '--version':
        code = (_package() / 'version.py').read_text(encoding='utf-8')
        print('deqdet', re.findall(r"^__version__ = '(.+)'", code, re.MULTILINE)[0])
        return
    tool = _choose(found, words[0])
    sys.argv = [f'deqdet {tool.name}', *words[1:]]
    installed_first(str(tool.path))
    if tool.path.suffix == '.sh':
        os.environ.setdefault('PYTHON', sys.executable)
        os.execvp('bash', ['bash', str(tool.path), *words[1:]])
    _run(tool.path)


def find_tools() -> Iterator[Tool]:
    """The tools that are there: Python files with a ``main``, and scripts that start many workers of one."""
    package = _package()
    # Those of the checkout or, installed from a wheel, of the package, as mmdet's.
    folder = package / '.mim' / 'tools'
    if not folder.is_dir():
        folder = package.parents[1] / 'tools'
    names = set()
    for path in [*sorted(folder.glob('*.py')), *sorted(folder.glob('*/*.py'))]:
        code = ast.parse(path.read_bytes())
        if 'main' in _defined(code):
            names.add(path.stem)
            yield Tool('' if path.parent == folder else path.parent.name, path.stem, path,
                       (ast.get_docstring(code) or '').split('\n')[0].rstrip('.'))
    for path in sorted(folder.glob('*.sh')):
        if path.stem.partition('_')[2] in names:
            yield Tool('', path.stem, path, path.read_text(encoding='utf-8').split('\n')[1].strip('# .'))


def _package() -> Path:
    """Folder of the package, which is not imported."""
    spec = importlib.util.find_spec('deqdet')
    if spec is None or spec.origin is None:
        _fail('the package deqdet is not installed here')
    return Path(spec.origin).resolve().parent


def _defined(code: ast.Module) -> Iterator[str]:
    for part in code.body:
        if isinstance(part, ast.FunctionDef):
            yield part.name
        elif isinstance(part, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in part.names)


def _choose(tools: List[Tool], word: str) -> Tool:
    name = word.replace('-', '_')
    same = [tool for tool in tools if tool.name == name]
    if same:
        return same[0]  # those of `tools` itself come first
    near = get_close_matches(name, [tool.name for tool in tools], n=1)
    _fail(f'there is no command {word!r}{f", near it is {near[0]!r}" if near else ""}: `deqdet --help` '
          'lists them')


def _listing(tools: List[Tool]) -> str:
    width = max(len(tool.name) for tool in tools)
    lines = ['usage: deqdet [FOLDER] COMMAND ...', '       deqdet COMMAND --help', '       deqdet --version']
    for folder in dict.fromkeys(tool.folder for tool in tools):
        lines += ['', f'{folder} (the word may be left out):' if folder else 'commands:']
        lines += [f'  {tool.name:{width}}  {tool.summary}' for tool in tools if tool.folder == folder]
    return '\n'.join(lines)


def _run(path: Path) -> None:
    """What ``python PATH`` does, under the name of the command."""
    module = types.ModuleType('__main__')
    module.__file__ = str(path)
    sys.modules['__main__'] = module
    exec(compile(path.read_bytes(), str(path), 'exec'), module.__dict__)


def _fail(message: str) -> NoReturn:
    print(f'error: {message}', file=sys.stderr)
    sys.exit(2)
