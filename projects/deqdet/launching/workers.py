"""Workers: one process per GPU, or per share of the CPUs if there is no GPU."""

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

# Devices on which mmengine can start workers.
_ACCELERATORS = ('cuda', 'npu', 'mlu', 'musa')

# Whether this process is a worker over gloo.
_over_gloo = False

# Workers do not start at the same moment. torchrun ends all of them when rank 0 has reported the error.
_SECONDS_FOR_RANK_ZERO = 30.0


def has_accelerator() -> bool:
    """Whether mmengine trains on an accelerator here (False: on the CPU)."""
    return get_device() in _ACCELERATORS


def export_worker_variables(launcher: str) -> None:
    """Put torchrun's variables (RANK, WORLD_SIZE, ...) into the environment of a cluster task.

    Args:
        launcher (str): ``slurm``, ``mpi``, ``pytorch``, which has set them, or ``none``.

    Raises:
        UsageError: If the launcher did not start this process.
    """
    if launcher == 'none':
        return
    os.environ.update(worker_variables(launcher, os.environ))
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
               if name not in os.environ]
    if missing:
        raise UsageError(
            f'--launcher pytorch is for workers of torchrun, but the environment lacks {", ".join(missing)}: '
            'use tools/dist_train.sh, dist_test.sh or dist_detect.sh, or remove --launcher', 'launcher')


def prepare_workers(cfg: Config) -> None:
    """Prepare the config and this process for workers, before the Runner is built.

    Tasks of srun and mpirun first get the variables of torchrun. On GPUs mmengine does the rest (NCCL).
    Without GPU mmengine cannot start workers: it selects a CUDA device and passes it to DDP. So this function
    creates the process group over gloo, tells DDP that there is no device, and shares out torch's threads.

    Args:
        cfg (Config): The whole config, with ``launcher`` set. Changed in place.

    Raises:
        UsageError: If the launcher did not start the workers, or they exceed the visible GPUs here.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    export_worker_variables(launcher)
    workers = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    if has_accelerator():
        _choose_gpu(launcher, workers)
        # mmengine's own code for Slurm and MPI reads their variables and ignores the GPU chosen here.
        cfg.launcher = 'pytorch'
        return
    torch.set_num_threads(threads_per_worker(workers, launcher))
    if cfg.get('model_wrapper_cfg') is None:
        # mmengine's default, except device_ids, which must be None on a CPU.
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
    """Threads of torch for each worker on this machine.

    Args:
        workers (int): Number of workers on this machine.
        launcher (str): The launcher that started them.

    Returns:
        int: A fair share of the CPUs that this process may use, at least 1, and at most Slurm's
            ``--cpus-per-task``. The user's OMP_NUM_THREADS has priority, except 1 with several workers of
            torchrun, which sets it itself.
    """
    chosen = os.environ.get('OMP_NUM_THREADS', '')
    if chosen.isdigit() and int(chosen) > (1 if workers > 1 and launcher == 'pytorch' else 0):
        return int(chosen)
    if hasattr(os, 'sched_getaffinity'):
        # Not the number of CPUs of the machine: a container or taskset may allow fewer.
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    asked = os.environ.get('SLURM_CPUS_PER_TASK', '')
    if launcher == 'slurm' and asked.isdigit():
        # Slurm may or may not have bound each task to its share.
        return max(1, min(cpus, int(asked)))
    return max(1, cpus // workers)


def _choose_gpu(launcher, workers):
    """Check that each worker has a GPU. LOCAL_RANK becomes 0 if each worker sees only its own."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else workers
    if gpus == 1 and launcher != 'pytorch':
        # The cluster bound the task to a GPU (srun --gpus-per-task, mpirun with a wrapper). If all tasks
        # share one GPU after all, NCCL raises an error.
        os.environ['LOCAL_RANK'] = '0'
    elif workers > gpus:
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        visible = 'is not set' if visible is None else f'is {visible!r}'
        raise UsageError(
            f'this machine has {workers} workers, but only {gpus} visible GPU(s) (CUDA_VISIBLE_DEVICES '
            f'{visible}): start {gpus} workers, or make more GPUs visible', 'no-device')


@contextmanager
def running_workers(cfg: Config) -> Iterator[None]:
    """Prepare the workers, and destroy the process group at a normal end.

    After an exception the process group stays. Otherwise NCCL would wait for workers in the middle of a
    collective operation, and torchrun could not end them when this one dies.

    Args:
        cfg (Config): The whole config. Changed in place, see :func:`prepare_workers`.
    """
    prepare_workers(cfg)
    yield
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def leave() -> None:
    """The last line of a tool: end a worker over gloo without cleaning up the interpreter.

    Threads that torch leaves behind may abort a process at its end ("terminate called without an active
    exception", seen once in some hundred trainings). torchrun would then report a complete training as
    failed. Other processes return from here and end as usual.
    """
    if not _over_gloo:
        return
    atexit._run_exitfuncs()  # loader workers, logs: everything that Python does at exit
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def exit_with_usage_error(error: Exception) -> None:
    """Print the message of an error in one line and exit with status 2, as argparse does for a wrong option.

    Workers mostly find the same error at the same time. Rank 0 prints it. The others wait until torchrun ends
    them, and print theirs only if rank 0 found no error.
    """
    rank = int(os.environ.get('RANK', 0))
    if rank > 0:
        time.sleep(_SECONDS_FOR_RANK_ZERO)
    sys.stdout.flush()
    code = ' [missing-file]' if isinstance(error, FileNotFoundError) else ''
    print(f'error: {_one_line(str(error))}{code}', file=sys.stderr, flush=True)
    sys.exit(2)


def _one_line(message):
    if message.startswith('Caught ') and 'Original Traceback' in message:
        # From a worker of a data loader: its traceback, with the message at the end.
        message = re.split(r'^\S*(?:UsageError|FileNotFoundError): ', message, flags=re.MULTILINE)[-1]
    return one_line(message)
