"""Run the checks of a machine and collect their findings. A failing check does not stop the others."""

import gc
import math
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

import torch

from ..errors import one_line

_REASON = 160  # maximum length of a reason in the table
_NO_TIME = 'the time limit is reached'


@dataclass(frozen=True)
class Setting:
    """Settings of the checks.

    Attributes:
        device (torch.device): A CPU or a CUDA device.
        golden (Path, optional): Folder of golden cases, None if there are none.
        quick (bool): Small sizes and one round; times then mean little.
        rounds (int): Timed rounds.
        deadline (float): In ``time.monotonic()``; no part begins after it.
    """

    device: torch.device
    golden: Optional[Path]
    quick: bool
    rounds: int
    deadline: float = math.inf

    def check_time(self) -> None:
        """Raise a SkippedError after the deadline. Call it before a part that takes long."""
        if time.monotonic() > self.deadline:
            raise SkippedError(_NO_TIME)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == 'cuda'


@dataclass(frozen=True)
class Finding:
    """A line of the table.

    Attributes:
        check (str): Name of the check.
        result (str): ``'holds'``, ``'failed'``, ``'skipped'`` or ``'measured'``.
        detail (str): A value, or a reason.
        values (dict): The numbers, for the JSON.
    """

    check: str
    result: str
    detail: str
    values: Dict[str, Any] = field(default_factory=dict)


class SkippedError(Exception):
    """A check is impossible here; the message is the reason."""


Check = Callable[[Setting], Iterator[Finding]]


def measured(check: str, detail: object, **values: Any) -> Finding:
    """A measured fact."""
    return Finding(check, 'measured', one_line(str(detail)), values)


def judged(check: str, holds: bool, detail: str, **values: Any) -> Finding:
    """A claim that holds or fails."""
    return Finding(check, 'holds' if holds else 'failed', one_line(detail), values)


def bounded(check: str, error: float, bound: float, note: str = '') -> Finding:
    """An error that must be below a bound; NaN is not."""
    detail = f'error {error:.1e}, bound {bound:.0e}{note}'
    return judged(check, error < bound, detail, error=error, bound=bound)


def skipped(check: str, reason: object) -> Finding:
    """A check that is impossible here."""
    return Finding(check, 'skipped', _short(str(reason)))


def failed(check: str, error: BaseException) -> Finding:
    """An exception in a check."""
    memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return Finding(check, 'failed', _short(f'{"out of memory" if memory else type(error).__name__}: {error}'))


def attempt(check: str, find: Callable[..., Iterator[Finding]], *args: Any) -> Iterator[Finding]:
    """The findings of one part, which gets the arguments; an exception becomes the last finding."""
    try:
        yield from find(*args)
    except SkippedError as reason:
        yield skipped(check, reason)
    except Exception as error:  # the other checks are still useful
        yield failed(check, error)


def run_checks(checks: Mapping[str, Check], setting: Setting, *, seconds: float,
               tell: Callable[[str], None]) -> List[Finding]:
    """Run checks one after another; returns the findings of all, in order.

    Args:
        checks (Mapping[str, Check]): By name.
        setting (Setting): Passed to each check.
        seconds (float): After this time no further check or golden case begins.
        tell (Callable): Gets a line when a check begins.
    """
    findings: List[Finding] = []
    begin = time.monotonic()
    setting = replace(setting, deadline=begin + seconds)
    for number, (name, check) in enumerate(checks.items(), 1):
        spent = time.monotonic() - begin
        if spent > seconds:
            findings.append(skipped(name, _NO_TIME))
            continue
        tell(f'[{number}/{len(checks)}] {name} ... ({spent:.0f} s so far)')
        findings += attempt(name, check, setting)
        if setting.on_gpu:
            gc.collect()
            torch.cuda.empty_cache()
    return findings


def table_of(findings: Sequence[Finding]) -> str:
    """One Markdown table."""
    rows = [('check', 'result', 'value or reason'), *(
        (finding.check, finding.result, finding.detail.replace('|', '/')) for finding in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f'| {check:{widths[0]}} | {result:{widths[1]}} | {detail} |' for check, result, detail in rows]
    lines.insert(1, f'|{"-" * (widths[0] + 2)}|{"-" * (widths[1] + 2)}|---|')
    return '\n'.join(lines)


def verdict_of(findings: Sequence[Finding]) -> List[str]:
    """List the failed and the skipped checks."""
    lines = []
    for result, none in (('failed', 'no check failed'), ('skipped', 'no check was skipped')):
        found = [f'{finding.check} ({finding.detail})' for finding in findings if finding.result == result]
        lines += [f'{result}: {line}' for line in found] or [none]
    return lines


def as_json(findings: Sequence[Finding], setting: Setting, seconds: float) -> Dict[str, Any]:
    """The findings for machines."""
    return dict(device=str(setting.device), quick=setting.quick, seconds=round(seconds, 1),
                holds=not any(finding.result == 'failed' for finding in findings),
                findings=[asdict(finding) for finding in findings])


def _short(reason: str) -> str:
    reason = one_line(reason.replace(os.path.expanduser('~'), '~'))
    return reason if len(reason) <= _REASON else reason[:_REASON - 4] + ' ...'
