"""Workers start on CPUs as on GPUs, or fail with a clear message."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from deqdet.launching import workers
from deqdet.launching.torchrun import torchrun_options
from deqdet.launching.workers import prepare_workers, running_workers
from mmengine.config import Config
from refusals import refused
from torch import distributed


@pytest.fixture
def cpu_only(monkeypatch):
    monkeypatch.setattr(workers, 'has_accelerator', lambda: False)


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that the machine has two GPUs."""
    monkeypatch.setattr(workers, 'has_accelerator', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)


class TestOnACpu:

    def test_group_wrapper_and_end(self, cpu_only, torchrun_environment):
        cfg = Config(dict(launcher='pytorch', find_unused_parameters=True))
        with running_workers(cfg):
            assert distributed.get_backend() == 'gloo'
            wrapper = cfg.model_wrapper_cfg
            assert wrapper.type == 'MMDistributedDataParallel' and wrapper.device_ids is None
            assert wrapper.find_unused_parameters and not wrapper.broadcast_buffers
        assert not distributed.is_initialized()

    def test_wrapper_of_the_user_stays(self, cpu_only, torchrun_environment):
        cfg = Config(dict(launcher='pytorch', model_wrapper_cfg=dict(type='Mine')))
        prepare_workers(cfg)
        assert cfg.model_wrapper_cfg == dict(type='Mine')

    def test_no_launcher_no_group(self, cpu_only):
        cfg = Config(dict(launcher='none'))
        prepare_workers(cfg)
        assert not distributed.is_initialized() and 'model_wrapper_cfg' not in cfg

    def test_cpus_are_shared_out(self, monkeypatch):
        monkeypatch.setenv('OMP_NUM_THREADS', '1')
        monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(8), raising=False)
        assert [workers.threads_per_worker(count) for count in (2, 3, 16)] == [4, 2, 1]
        monkeypatch.delenv('OMP_NUM_THREADS')
        assert workers.threads_per_worker(1) == 8
        for count, chosen in ((1, 1), (1, 5), (2, 5)):  # torchrun sets 1 for several workers
            monkeypatch.setenv('OMP_NUM_THREADS', str(chosen))
            assert workers.threads_per_worker(count) == chosen

    def test_cpus_that_slurm_gives_to_a_task(self, monkeypatch):
        monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
        monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(8), raising=False)
        assert workers.threads_per_worker(2, 'slurm') == 4
        monkeypatch.setenv('SLURM_CPUS_PER_TASK', '3')
        assert [workers.threads_per_worker(4, kind) for kind in ('slurm', 'pytorch')] == [3, 2]
        # The process is already bound to its share of the CPUs: do not divide again.
        monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(2))
        assert workers.threads_per_worker(4, 'slurm') == 2
        monkeypatch.setenv('OMP_NUM_THREADS', '1')
        assert workers.threads_per_worker(4, 'slurm') == 1

    def test_without_torchrun(self, cpu_only, monkeypatch):
        monkeypatch.delenv('RANK', raising=False)
        with refused('launcher', 'RANK', 'tools/dist_train.sh', '--launcher'):
            prepare_workers(Config(dict(launcher='pytorch')))


class TestOnGpus:

    def test_left_to_mmengine(self, gpus, torchrun_environment, monkeypatch):
        monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
        cfg = Config(dict(launcher='pytorch'))
        prepare_workers(cfg)
        assert not distributed.is_initialized() and 'model_wrapper_cfg' not in cfg

    def test_more_workers_than_gpus(self, gpus, torchrun_environment, monkeypatch):
        monkeypatch.setenv('LOCAL_WORLD_SIZE', '8')
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,4')
        with refused('no-device', '8 workers', '2 visible GPU(s)', "CUDA_VISIBLE_DEVICES is '3,4'"):
            prepare_workers(Config(dict(launcher='pytorch')))

    @pytest.mark.parametrize('visible, local_rank', [(2, '1'), (1, '0')])
    def test_tasks_of_slurm(self, gpus, torchrun_environment, monkeypatch, visible, local_rank):
        """mmengine would use SLURM_LOCALID as the GPU, even if a task sees only one GPU."""
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: visible)
        for name, value in dict(PROCID='3', LOCALID='1', NTASKS='4', NODELIST='a,b',
                                TASKS_PER_NODE='2(x2)', NODEID='1').items():
            monkeypatch.setenv(f'SLURM_{name}', value)
        monkeypatch.delenv('ENVIRONMENT', raising=False)
        cfg = Config(dict(launcher='slurm'))
        prepare_workers(cfg)
        assert cfg.launcher == 'pytorch' and 'model_wrapper_cfg' not in cfg
        assert (os.environ['RANK'], os.environ['WORLD_SIZE']) == ('3', '4')
        assert os.environ['LOCAL_RANK'] == local_rank


class TestTorchrunOptions:

    def test_one_machine_gets_a_free_port(self):
        first = torchrun_options(workers='2', environment={})
        assert first[:3] == ['--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1']
        assert first[-1] == '--nproc_per_node=2'
        assert 1024 <= int(first[3].split('=')[1]) < 65536

    def test_environment_as_mmdet_users_know_it(self):
        options = torchrun_options(workers='8', environment=dict(
            NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234'))
        assert options == ['--nnodes=2', '--node_rank=1', '--master_addr=10.0.0.1',
                           '--master_port=1234', '--nproc_per_node=8']

    def test_machines_agree_on_a_port(self):
        assert '--master_port=29500' in torchrun_options(workers='1', environment=dict(NNODES='2'))


@pytest.mark.slow
@pytest.mark.parametrize('failing, line', [
    ('0', 'error: rank 0 is unhappy'), ('1', 'error: rank 1 is unhappy'),
    ('0 1', 'error: rank 0 is unhappy')])
def test_one_line_whichever_workers_fail_and_nobody_waits(tmp_path, failing, line):
    # Import only these modules; the whole package would take seconds.
    script = tmp_path / 'worker.py'
    script.write_text(textwrap.dedent(f'''
        import os, sys, time, types
        launching = {os.path.dirname(workers.__file__)!r}
        for name, folder in (('p', os.path.dirname(launching)), ('p.launching', launching)):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [folder]
        from p.launching import workers
        from p.errors import UsageError
        rank = os.environ['RANK']
        if rank in {failing!r}.split():
            workers.exit_with_usage_error(UsageError('rank ' + rank + ' is\\nunhappy'))
        time.sleep(60)
    '''))
    torchrun = os.path.join(os.path.dirname(workers.__file__), 'torchrun.py')
    done = subprocess.run([sys.executable, torchrun, '2', script], capture_output=True, text=True,
                          timeout=50)
    assert done.returncode == 2
    assert done.stderr.strip() == line
