"""Workers: one process per GPU, or per share of the CPUs where there is no GPU."""

import atexit
import os
import re
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Dict, Iterator

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import distributed

from ..errors import UsageError, one_line
from .cluster import worker_variables

# What mmengine can start workers on by itself.
_ACCELERATORS = ('cuda', 'npu', 'mlu', 'musa')

# Whether this process is a worker over gloo.
_over_gloo = False

# torchrun looks after its workers ten times a second: time enough for it to have ended them.
_SECONDS_FOR_RANK_ZERO = 3.0


def has_accelerator() -> bool:
    """Whether mmengine trains on an accelerator here (False: on the CPU)."""
    return get_device() in _ACCELERATORS


def export_worker_variables(launcher: str) -> None:
    """Put torchrun's variables (RANK, WORLD_SIZE, ...) into the environment of a task of a cluster.

    Args:
        launcher (str): ``slurm`` or ``mpi``; others change nothing.

    Raises:
        UsageError: If neither srun nor mpirun started this process.
    """
    os.environ.update(worker_variables(launcher, os.environ))


def prepare_workers(cfg: Config) -> None:
    """Make the config and this process ready for its workers, before the Runner is made.

    Tasks of srun and mpirun get the variables of torchrun first. On GPUs mmengine then does
    everything itself (NCCL). Without one it cannot start workers (it selects a CUDA device, and
    gives DDP one), so the process group is made here, over gloo, and DDP is told that there is no
    device. The threads of torch are shared out among the workers.

    Args:
        cfg (Config): The whole config, with ``launcher`` set. Changed in place.

    Raises:
        UsageError: If the launcher did not start the workers, or if there are more of them on this
            machine than visible GPUs.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    export_worker_variables(launcher)
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
               if name not in os.environ]
    if missing:
        raise UsageError(
            f'--launcher pytorch is for workers that torchrun started ({", ".join(missing)} not '
            'set in the environment): use tools/dist_train.sh or tools/dist_test.sh, or leave '
            '--launcher out')
    workers = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    if has_accelerator():
        _choose_gpu(launcher, workers)
        # mmengine's own way from Slurm and MPI looks at their variables, not at the GPU chosen here.
        cfg.launcher = 'pytorch'
        return
    torch.set_num_threads(threads_per_worker(workers, launcher))
    if cfg.get('model_wrapper_cfg') is None:
        # As mmengine's own default, but for device_ids, which must be None on a CPU.
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
    if not distributed.is_initialized():
        global _over_gloo
        _over_gloo = True
        timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
        extra: Dict[str, Any] = {} if timeout is None else dict(timeout=timedelta(seconds=timeout))
        distributed.init_process_group('gloo', **extra)


def threads_per_worker(workers: int, launcher: str = 'pytorch') -> int:
    """Threads of torch for each of the workers on this machine.

    Args:
        workers (int): Number of workers on this machine.
        launcher (str): Who started them.

    Returns:
        int: A fair share of the CPUs that this process may use, at least 1, and of Slurm's
            ``--cpus-per-task`` not more. OMP_NUM_THREADS is the user's word and wins, except for 1
            with several workers of torchrun, which sets it itself.
    """
    chosen = os.environ.get('OMP_NUM_THREADS', '')
    if chosen.isdigit() and int(chosen) > (1 if workers > 1 and launcher == 'pytorch' else 0):
        return int(chosen)
    if hasattr(os, 'sched_getaffinity'):
        # Not the machine's count: a container or taskset may have narrowed it.
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    asked = os.environ.get('SLURM_CPUS_PER_TASK', '')
    if launcher == 'slurm' and asked.isdigit():
        # Slurm may or may not have bound each task to its share.
        return max(1, min(cpus, int(asked)))
    return max(1, cpus // workers)


def _choose_gpu(launcher, workers):
    """Check that there is a GPU for each worker; LOCAL_RANK becomes 0 where each sees only its own."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else workers
    if gpus == 1 and launcher != 'pytorch':
        # Bound by the cluster (srun --gpus-per-task, mpirun with a wrapper). If it is one GPU for
        # all of them after all, NCCL refuses and says so.
        os.environ['LOCAL_RANK'] = '0'
    elif workers > gpus:
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        visible = 'is not set' if visible is None else f'is {visible!r}'
        raise UsageError(
            f'{workers} workers were asked for on this machine, but only {gpus} GPU(s) are '
            f'visible (CUDA_VISIBLE_DEVICES {visible}): ask for {gpus}, or make more visible')


@contextmanager
def running_workers(cfg: Config) -> Iterator[None]:
    """Workers are ready inside; the process group is taken down at a normal end.

    After an exception it is left alone: NCCL would wait for workers that are still in the middle
    of a collective operation, and torchrun could not end them as soon as this one has died.

    Args:
        cfg (Config): The whole config. Changed in place, see :func:`prepare_workers`.
    """
    prepare_workers(cfg)
    yield
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def leave() -> None:
    """The last line of a tool: end a worker over gloo without taking the interpreter apart.

    Threads that torch leaves behind may abort a process in its last moment ("terminate called without an
    active exception", seen once in some hundred trainings), and torchrun would report a complete training
    as failed. Other processes return from here and end as usual.
    """
    if not _over_gloo:
        return
    atexit._run_exitfuncs()  # loader workers, logs: everything that Python does at an end
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def exit_with_usage_error(error: Exception) -> None:
    """Print one line and leave with status 2, as argparse does for a wrong option.

    Workers mostly find the same fault at the same time. Rank 0 says it; the others wait until
    torchrun has ended them, and speak only when rank 0 found nothing wrong.

    Args:
        error (Exception): What to say; its message in one line.
    """
    rank = int(os.environ.get('RANK', 0))
    if rank > 0:
        time.sleep(_SECONDS_FOR_RANK_ZERO)
    sys.stdout.flush()
    print(f'error: {_one_line(str(error))}', file=sys.stderr, flush=True)
    sys.exit(2)


def _one_line(message):
    if message.startswith('Caught ') and 'Original Traceback' in message:
        # From a worker of a data loader: the traceback of the worker, the message at its end.
        message = re.split(r'^\S*(?:UsageError|FileNotFoundError): ', message, flags=re.MULTILINE)[-1]
    return one_line(message)
