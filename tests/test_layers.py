"""Allowed imports between packages (rooms), read from the sources without importing anything."""

import ast
from pathlib import Path

import deqdet
import pytest

PACKAGE = Path(deqdet.__file__).parent

# A room imports only from rooms before it. Files beside the rooms (errors, settings, ...) import from none.
ROOMS = ('equilibrium', 'images', 'files', 'compat', 'model', 'data', 'checkpoints', 'launching', 'training',
         'inference', 'analysis', 'export', 'app', 'device_check', 'commands')


def room_of(module):
    """The room of a module, by its dotted name below the package; None for a file beside the rooms."""
    first = module.split('.')[0]
    return first if first in ROOMS else None


def imports_of(package):
    """Imports of each module of a package in a folder.

    Returns two dicts by the dotted name of a module below the package ('' for the package itself): modules of
    the package that it imports, and names of other packages.
    """
    sources = {}
    for path in package.rglob('*.py'):
        parts = path.relative_to(package).with_suffix('').parts
        is_package = parts[-1] == '__init__'
        sources['.'.join(parts[:-1] if is_package else parts)] = (path, is_package)
    inside, outside = {}, {}
    for module, (path, is_package) in sources.items():
        inside[module], outside[module] = set(), set()
        own = module.split('.') if module else []
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                outside[module].update(alias.name.split('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                outside[module].add((node.module or '').split('.')[0])
            elif isinstance(node, ast.ImportFrom):
                base = own[:len(own) - node.level + is_package] + (node.module or '').split('.')
                target = '.'.join(part for part in base if part)
                for alias in node.names:
                    deeper = f'{target}.{alias.name}'.lstrip('.')
                    inside[module].add(deeper if deeper in sources else target)
    return inside, outside


def upward(inside):
    """Imports from a later room, and imports from a room in a file beside the rooms."""
    found = []
    for module, targets in inside.items():
        for target in targets:
            ours, theirs = room_of(module), room_of(target)
            if theirs and module and (ours is None or ROOMS.index(theirs) > ROOMS.index(ours)):
                found.append(f'{module} imports {target}')
    return sorted(found)


def circles(inside):
    """Files that import each other, as chains of names."""
    found, done = [], set()

    def visit(module, path):
        if module in path:
            found.append(' -> '.join([*path[path.index(module):], module]))
        elif module not in done:
            for target in sorted(inside.get(module, ())):
                visit(target, [*path, module])
            done.add(module)

    for module in sorted(inside):
        visit(module, [])
    return found


IMPORTS = imports_of(PACKAGE)


def test_no_import_from_a_higher_room():
    assert not upward(IMPORTS[0])


def test_no_circle():
    assert not circles(IMPORTS[0])


def test_the_equilibrium_knows_no_framework_of_detectors():
    inside, outside = IMPORTS
    for module in inside:
        if room_of(module) == 'equilibrium':
            assert not {name for name in outside[module] if name.startswith('mm')}, module
            assert {room_of(target) or target for target in inside[module]} <= {'equilibrium', 'errors',
                                                                               'settings'}, module


# Private names of torch and Python, and the methods of a namedtuple.
_NOT_OF_MMDET = ('_getframe', '_replace', '_fields', '_exit', '_run_exitfuncs', '_metadata', '_parameters',
                 '_modules', '_overloadname')


def private_members(source):
    """Uses of other objects' private members, by line."""
    return [f'{node.lineno}: {ast.unparse(node)}' for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Attribute) and node.attr[0] == '_' != node.attr[1:2]
            and node.attr not in _NOT_OF_MMDET and ast.unparse(node.value) not in ('self', 'cls', 'super()')]


def test_private_members_are_touched_in_compat_alone():
    found = {path.relative_to(PACKAGE).as_posix(): private_members(path.read_text(encoding='utf-8'))
             for path in PACKAGE.rglob('*.py') if path.parent.name != 'compat'}
    assert not {path: lines for path, lines in found.items() if lines}
    assert private_members('self._own\nrunner._resume\nstate._replace(box=1)') == ['2: runner._resume']


def test_every_folder_is_a_room():
    folders = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
    assert folders <= set(ROOMS)


@pytest.mark.parametrize('source, found', [
    ('from ..training import loop', ['model.head imports training.loop']),
    ('from ..training.loop import Loop', ['model.head imports training.loop']),
    ('def late():\n    from ..training.loop import Loop', ['model.head imports training.loop']),
    ('from ..equilibrium import solver\nimport torch', [])])
def test_these_tests_can_fail(tmp_path, source, found):
    for name, text in (('model/head', source), ('training/loop', ''), ('equilibrium/solver', '')):
        path = tmp_path / f'{name}.py'
        path.parent.mkdir()
        (path.parent / '__init__.py').write_text('')
        path.write_text(text)
    assert upward(imports_of(tmp_path)[0]) == found


def test_a_circle_is_found(tmp_path):
    (tmp_path / 'one.py').write_text('from . import two')
    (tmp_path / 'two.py').write_text('from .one import thing')
    assert circles(imports_of(tmp_path)[0]) == ['one -> two -> one']
