"""MkDocs hook: makes a reference page for each package of the plugin, without importing it."""

import ast
from pathlib import Path

from mkdocs.structure.files import File

_PROJECTS = Path(__file__).resolve().parents[2] / 'projects'
_SECTION = 'API reference'
_INTRODUCTION = """# API reference

{first}

These pages explain every class and function. A config names a class by its registered name; the class
explains the keys. Shapes are written as `(B, N, C)`: images, queries, channels. Units are pixels of the
network's input, unless a docstring gives another unit.

| package | |
|---|---|
{rows}
"""


def on_config(config, **_):
    """Add the pages to the navigation."""
    for entry in config.nav:
        if _SECTION in entry:
            entry[_SECTION] = [page for page, _ in _pages().values()]
    return config


def on_files(files, config, **_):
    """Add the pages to the site."""
    for page, text in _pages().values():
        files.append(File.generated(config, page, content=text))
    return files


def _pages():
    """File name and text of each page, by package."""
    packages = sorted(path.parent for path in (_PROJECTS / 'deqdet').rglob('__init__.py'))
    pages, rows = {}, []
    for package in packages:
        modules = [path for path in sorted(package.glob('*.py')) if not path.name.startswith('_')]
        if not modules:
            continue
        name = _dotted(package)
        page = f'api/{name}.md'
        rows.append(f'| [`{name}`]({name}.md) | {_docstring(package / "__init__.py").splitlines()[0]} |')
        pages[name] = page, '\n\n'.join(
            [f'# {name}', _docstring(package / '__init__.py'), *(f'::: {_dotted(path)}' for path in modules)])
    first = _docstring(packages[0] / '__init__.py')
    return {'': ('api/index.md', _INTRODUCTION.format(first=first, rows='\n'.join(rows))), **pages}


def _dotted(path):
    return '.'.join(path.relative_to(_PROJECTS).with_suffix('').parts)


def _docstring(path):
    return ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or path.parent.name
