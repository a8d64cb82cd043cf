"""One package under two names.

The installed plugin is ``deqdet``. In a checkout it is also ``projects.deqdet``, as mmdetection names its
projects. ``custom_imports`` may contain both names. The first name is loaded; the other becomes an alias of
it, with all submodules. So each class exists once and is registered once.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from pathlib import Path

NAMES = ('deqdet', 'projects.deqdet')


class _AliasLoader(importlib.abc.Loader):
    """Returns the module that is loaded under the other name."""

    def __init__(self, real_name):
        self.real_name = real_name

    def create_module(self, spec):
        module = importlib.import_module(self.real_name)
        # The import system overwrites `__spec__` of the module; relative imports need the real one.
        self.real_spec = module.__spec__
        return module

    def exec_module(self, module):
        module.__spec__ = self.real_spec


class _AliasFinder(importlib.abc.MetaPathFinder):
    """Finds ``alias.x.y`` as ``real.x.y``."""

    def __init__(self, alias, real):
        self.alias = alias
        self.real = real

    def find_spec(self, fullname, path=None, target=None):
        if not fullname.startswith(self.alias + '.'):
            return None
        real_name = self.real + fullname[len(self.alias):]
        if importlib.util.find_spec(real_name) is None:
            return None
        return importlib.util.spec_from_loader(fullname, _AliasLoader(real_name))


def install_alias(package: str) -> None:
    """Make the package importable by its other name too.

    Args:
        package (str): Name under which the package is imported. A name that is not in ``NAMES`` (a copy of
            the plugin in another place) gets no alias.
    """
    if package not in NAMES:
        return
    alias = NAMES[1 - NAMES.index(package)]
    if alias in sys.modules:
        return
    sys.modules[alias] = sys.modules[package]
    parent, _, name = alias.rpartition('.')
    if parent and _is_this_checkout(importlib.util.find_spec(parent)):
        # `import projects.deqdet` finds the alias and does not set the attribute of the parent.
        setattr(importlib.import_module(parent), name, sys.modules[package])
    sys.meta_path.insert(0, _AliasFinder(alias, package))


def _is_this_checkout(spec):
    """Whether a package is the folder that contains the plugin, not another package of the same name."""
    folders = (spec and spec.submodule_search_locations) or ()
    return str(Path(__file__).resolve().parents[1]) in [str(Path(f).resolve()) for f in folders]
