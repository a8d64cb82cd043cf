"""The Python tools in the process of the test."""

import importlib.util
import sys
from pathlib import Path

import pytest
from deqdet import engine

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Call a tool in this process, from a folder that is not the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def call(tool, *words):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, words)])
        spec = importlib.util.spec_from_file_location('tool', TOOLS / tool)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        engine.run(module.main)

    return call


@pytest.fixture
def refused(call, capsys):
    """Call a tool that ends with status 2 and one line, which comes back."""

    def refused(tool, *words):
        with pytest.raises(SystemExit) as caught:
            call(tool, *words)
        assert caught.value.code == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith('error: ')
        return line

    return refused
