"""Which process runs which tests. The fixtures are in `shared_fixtures.py`."""

import gc

import pytest


def pytest_configure(config):
    """Load the fixtures where tests run.

    With pytest-xdist the first process only distributes the tests. It does not need torch and mmdet, whose
    import takes seconds.
    """
    if hasattr(config, 'workerinput') or not config.getoption('numprocesses', None):
        config.pluginmanager.import_plugin('shared_fixtures')


def pytest_itemcollected(item):
    """One process gets a whole file. Tests that need the demo's training are distributed one by one."""
    if 'demo' not in item.fixturenames and item.get_closest_marker('xdist_group') is None:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_modifyitems(items):
    """The first process trains the demo; the others begin with tests that do not need it."""
    of_demo = [item for item in items if 'demo' in item.fixturenames][::-1]
    others = [item for item in items if 'demo' not in item.fixturenames]
    items[:] = of_demo[:1] + others + of_demo[1:]


def pytest_collection_finish():
    """Freeze all objects that exist before the first test, so that the garbage collector skips them.

    Each data set of mmengine calls the collector, which takes a second with all packages imported.
    """
    gc.collect()
    gc.freeze()
