"""yapf's cache file: another worker is still writing it, or it is damaged."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from deqdet.compat import imports
from refusals import refused


@pytest.fixture
def damaged(monkeypatch, tmp_path):
    """An empty cache file, newer than yapf, which is not imported yet."""
    for name in [name for name in sys.modules if name.partition('.')[0] in ('yapf', 'yapf_third_party')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    subprocess.run([sys.executable, '-c', 'import yapf.yapflib.yapf_api'], check=True)
    file, = tmp_path.glob('YAPF/*/PatternGrammar*')
    whole = file.read_bytes()
    file.write_bytes(b'')
    return file, whole


def test_another_worker_writes_the_cache(damaged, monkeypatch):
    file, whole = damaged
    monkeypatch.setattr(imports, '_SECONDS_BETWEEN', 0.05)
    threading.Timer(0.2, file.write_bytes, [whole]).start()
    imports.import_yapf()


def test_a_damaged_cache_is_named(damaged, monkeypatch):
    monkeypatch.setattr(imports, '_SECONDS_BETWEEN', 0)
    folder = Path(os.environ['XDG_CACHE_HOME'], 'YAPF')
    with refused('missing-package', 'yapf', folder):
        imports.import_yapf()
