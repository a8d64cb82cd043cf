"""Fixtures of all tests. Every test imports deqdet before anything of mmdet, as a user does."""

import fcntl
import importlib
import logging
import os
import pickle
import socket
import sys
import threading
from pathlib import Path

import deqdet  # noqa: F401  (registers the models, installs the stand-in operators)
import mmdet
import pytest
import torch
from deqdet.compat.imports import import_yapf
from deqdet.launching.command_line import run
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.utils import manager
from small_model import ROOT
from torch import distributed
from trainings import train_demo


@pytest.fixture(autouse=True)
def mmdet_scope():
    """Type names resolve in mmdet's registries, as they do under a Runner."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield
    # If making an instance fails (for example, for a wrong config), mmengine keeps its lock. Threads of a
    # later test would wait for it forever.
    manager._lock = threading.RLock()


@pytest.fixture(autouse=True)
def threads():
    """Tools set the number of threads. In later tests more threads than cores would wait for each other."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session', autouse=True)
def unformatted_configs():
    """Skip yapf: mmengine formats each config before writing it, seconds, several times per training."""
    import_yapf()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **style: (text, True))
        yield


@pytest.fixture
def log():
    """Messages to mmengine's logger during the test."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


@pytest.fixture
def free_port():
    """A free port for a process group."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


@pytest.fixture
def config_of_mmdet():
    """Loads a config that mmdet ships, by its path below ``configs``."""
    folder = Path(mmdet.__file__).parent / '.mim' / 'configs'
    if not folder.exists():
        pytest.skip('this mmdet was installed without its configs')
    return lambda path: Config.fromfile(str(folder / path))


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Call a Python tool in this process, from outside the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    # A tool sets it for its subprocesses; later tests must not see it.
    monkeypatch.setenv('PYTHONSAFEPATH', '1')

    def call(tool, *words):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, words)])
        assert (ROOT / 'tools' / tool).is_file()
        name = Path(tool).with_suffix('').as_posix().replace('/', '.')
        run(importlib.import_module(f'deqdet.commands.{name}').main)

    return call


@pytest.fixture
def refused(call, capsys):
    """Call a tool that must fail with status 2 and one line; returns the line."""

    def refused(tool, *words):
        with pytest.raises(SystemExit) as caught:
            call(tool, *words)
        assert caught.value.code == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith('error: ')
        return line

    return refused


@pytest.fixture(scope='session')
def demo(tmp_path_factory):
    """The demo, trained once for all slow tests, by the first process that needs it."""
    folder = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        folder = folder.parent  # shared by all processes
    trained = folder / 'demo.pickle'
    with open(folder / 'demo.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not trained.exists():
            trained.write_bytes(pickle.dumps(train_demo(folder / 'demo')))
        return pickle.loads(trained.read_bytes())


@pytest.fixture
def torchrun_environment(monkeypatch, free_port):
    """The environment of a single worker under torchrun."""
    variables = dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', LOCAL_WORLD_SIZE='1',
                     MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.fixture
def single_worker(torchrun_environment):
    """A process group with this process only."""
    distributed.init_process_group('gloo')
