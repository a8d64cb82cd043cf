"""Times of several forms of a computation, memory of a process, and the machine they depend on."""

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


def now() -> float:
    """Seconds of a clock, after a GPU has done its work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


class Stopwatch:
    """Measures seconds by part; parts with the same name add up."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what runs inside."""
        begin = now()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + now() - begin


def take_turns(forms: Mapping[str, Callable[[], Mapping[str, float]]],
               rounds: int) -> Dict[str, Dict[str, float]]:
    """Median seconds by form and part.

    The forms take turns in each round, so that the load of the machine is the same for all. The first round
    is a warm-up and does not count.

    Args:
        forms (Mapping[str, Callable]): Each call runs the form once and returns seconds by part.
        rounds (int): Number of rounds after the warm-up, at least 1.
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
    """Peak memory so far in GB: of this process on a CPU, of tensors on a GPU."""
    if device.startswith('cuda'):
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path('/proc/self/status')
    if status.exists():
        # ru_maxrss would start with the value of the parent process.
        return int(re.findall(r'VmHWM:\s+(\d+) kB', status.read_text())[0]) * 1024 / 1e9
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def processor_name() -> str:
    """Name of the CPU."""
    model = re.search(r'model name\s*:\s*(.*)', cpu_info())
    return model[1] if model else platform.processor() or platform.machine()


def cpu_info() -> str:
    """Content of ``/proc/cpuinfo``; empty if the file does not exist."""
    info = Path('/proc/cpuinfo')
    return info.read_text() if info.exists() else ''


def surroundings(device: str) -> Dict[str, object]:
    """Conditions of a measurement: date, processor, threads and versions."""
    return {'date': date.today().isoformat(),
            'processor': torch.cuda.get_device_name() if device.startswith('cuda')
            else f'{processor_name()}, {torch.backends.cpu.get_cpu_capability()}',
            'threads': torch.get_num_threads(), 'torch': torch.__version__,
            'python': platform.python_version()}
