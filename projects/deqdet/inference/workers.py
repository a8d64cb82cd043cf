"""Workers of one detection job. The first shares its findings and waits for the others at the end.

They share a key-value store of torch.distributed, not a process group. They exchange text and no tensors, and
some may work for hours while others are idle. Also, in a process group mmengine draws pictures in the first
process only.
"""

import argparse
import base64
import os
import pickle
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Sequence, TypeVar

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch.distributed import Store
from torch.distributed.rendezvous import rendezvous

from ..errors import UsageError
from ..launching.workers import export_worker_variables, has_accelerator, prepare_workers

Item = TypeVar('Item')
Shared = TypeVar('Shared')

# Interval for checking whether another worker is ready. Signals are handled in between.
_SECONDS_BETWEEN_LOOKS = 0.1

# When a worker fails, the launcher ends all of them. It has this time to do so.
_SECONDS_TO_BE_ENDED = 10.0


@dataclass(frozen=True)
class Part:
    """The share of one process: ``number``, from 1 to ``count``."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f'{self.number}/{self.count}'

    def of(self, items: Sequence[Item]) -> List[Item]:
        """Every ``count``-th item. Neighbours often take equally long, so they go to different parts."""
        return list(items[self.number - 1::self.count])


#: The whole job.
WHOLE = Part()


def parse_part(word: str) -> Part:
    """Parse ``I/N``, with I from 1 to N, for argparse."""
    found = re.fullmatch(r'(\d+)/(\d+)', word, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(
            f'{word}: must be I/N, I from 1 to N, for example 1/4, 2/4, 3/4 and 4/4 (if an array counts from '
            '0, use $((SLURM_ARRAY_TASK_ID + 1)))')
    return Part(int(found[1]), int(found[2]))


class Workers:
    """This process among the workers; a single process is the first.

    Args:
        part (Part): Its share.
        device (str, optional): Its device.
        store (Store, optional): The common store; None for a single process.
    """

    def __init__(self, part: Part = WHOLE, device: Optional[str] = None, store: Optional[Store] = None
                 ) -> None:
        self.part, self.device, self._store = part, device, store
        self._shared = 0

    @property
    def first(self) -> bool:
        """Whether this worker reads the inputs, reports and writes the results."""
        return self.part.number == 1

    def share(self, find: Callable[[], Shared]) -> Shared:
        """Share the result of ``find``, which only the first worker calls, with all.

        All workers must make these calls in the same order.
        """
        store = self._store
        if store is None:
            return find()
        self._shared += 1
        key = f'shared {self._shared}'
        if self.first:
            found = find()
            with _ended_together():
                store.set(key, base64.b64encode(pickle.dumps(found)).decode())
            return found
        with _ended_together():
            self._wait(lambda: store.check([key]))
            return pickle.loads(base64.b64decode(store.get(key)))

    def finish(self) -> None:
        """Report that this worker is done; the first waits until all are."""
        store = self._store
        if store is None:
            return
        with _ended_together():
            store.add('finished', 1)
            if self.first:
                self._wait(lambda: store.add('finished', 0) >= self.part.count)

    @staticmethod
    def _wait(ready: Callable[[], bool]) -> None:
        while not ready():
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def connect(launcher: str, device: Optional[str]) -> Workers:
    """Connect the workers that a launcher has started.

    On CPUs each worker uses one thread, or OMP_NUM_THREADS: the last digits of results depend on the number
    of threads, and must not depend on the number of workers.

    Args:
        launcher (str): ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        device (str, optional): The user's choice.

    Raises:
        UsageError: If the launcher did not start this process, or has no device for it.
    """
    if launcher == 'none':
        return Workers(device=device)
    export_worker_variables(launcher)
    part = Part(int(os.environ['RANK']) + 1, int(os.environ['WORLD_SIZE']))
    numbered = ':' in (device or '')
    if numbered and part.count > 1 and part.number == 1:
        raise UsageError(f'--device {device} is one device, for {part.count} workers: remove the number, and '
                         'choose devices with CUDA_VISIBLE_DEVICES', 'bad-argument')
    if has_accelerator() and not (device or '').startswith('cpu'):
        prepare_workers(Config(dict(launcher=launcher)))  # gives each worker a GPU
        device = device if numbered else f'{device or get_device()}:{os.environ["LOCAL_RANK"]}'
    else:
        torch.set_num_threads(_chosen_threads())
    if part.count == 1:
        return Workers(device=device)
    with _ended_together():
        store, _, _ = next(rendezvous('env://', part.number - 1, part.count))
    return Workers(part, device, store)


def _chosen_threads() -> int:
    """OMP_NUM_THREADS, else 1; torchrun sets it to 1 for several workers."""
    chosen = os.environ.get('OMP_NUM_THREADS', '')
    return int(chosen) if chosen.isdigit() and int(chosen) else 1


@contextmanager
def _ended_together() -> Iterator[None]:
    """If the store is gone, another worker has failed and reported why; the launcher ends this one."""
    try:
        yield
    except RuntimeError as error:
        time.sleep(_SECONDS_TO_BE_ENDED)
        raise UsageError('another worker has ended early: run the same command again; it continues',
                         'worker-failed') from error
