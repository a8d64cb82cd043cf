"""Times of several forms of one computation, and memory of a process."""

import platform
import re
import resource
import statistics
import sys
import time
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Callable, Dict, Iterator, Mapping

import torch


class Stopwatch:
    """Seconds by part; parts of one name add up.

    Args:
        device (str): ``'cpu'`` or ``'cuda'``, which is waited for.
    """

    def __init__(self, device: str) -> None:
        self.seconds: Dict[str, float] = {}
        self._cuda = device.startswith('cuda')

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what runs inside."""
        begin = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + self._now() - begin

    def _now(self):
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def take_turns(forms: Mapping[str, Callable[[], Mapping[str, float]]],
               rounds: int) -> Dict[str, Dict[str, float]]:
    """Median seconds by form and part.

    The forms take turns within a round, so that all of them meet the same load of the machine. A first round
    does not count.

    Args:
        forms (Mapping[str, Callable]): Each runs once and returns seconds by part.
        rounds (int): At least 1.
    """
    found = {name: [] for name in forms}
    for number in range(rounds + 1):
        for name, run in forms.items():
            seconds = run()
            print(f'round {number} of {rounds}: {name}: {sum(seconds.values()):.3f} s', file=sys.stderr,
                  flush=True)
            if number:
                found[name].append(seconds)
    return {name: {part: statistics.median(seconds[part] for seconds in runs) for part in runs[0]}
            for name, runs in found.items()}


def peak_memory(device: str) -> float:
    """Most memory so far in GB: of this process on a CPU, of tensors on a GPU."""
    if device.startswith('cuda'):
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path('/proc/self/status')
    if status.exists():
        # ru_maxrss begins with that of the parent process.
        return int(re.findall(r'VmHWM:\s+(\d+) kB', status.read_text())[0]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def processor_name() -> str:
    """Name of the CPU."""
    model = re.search(r'model name\s*:\s*(.*)', cpu_info())
    return model[1] if model else platform.processor() or platform.machine()


def cpu_info() -> str:
    """``/proc/cpuinfo``; empty where there is none."""
    info = Path('/proc/cpuinfo')
    return info.read_text() if info.exists() else ''


def surroundings(device: str) -> Dict[str, object]:
    """What figures depend on: date, processor, threads and versions."""
    return {'date': date.today().isoformat(),
            'processor': torch.cuda.get_device_name() if device.startswith('cuda')
            else f'{processor_name()}, {torch.backends.cpu.get_cpu_capability()}',
            'threads': torch.get_num_threads(), 'torch': torch.__version__,
            'python': platform.python_version()}
