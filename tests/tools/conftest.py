import importlib.util
import sys

import pytest
from deqdet import engine
from small_model import ROOT


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Call a tool in this process, from a folder that is not the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def call(tool, *words):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, words)])
        spec = importlib.util.spec_from_file_location('tool', ROOT / 'tools' / tool)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        engine.run(module.main)

    return call
