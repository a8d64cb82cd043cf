import pytest
from torch import distributed


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
    """A process group of this process alone."""
    distributed.init_process_group('gloo')
