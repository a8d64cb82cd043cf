"""Progress: a bar on a terminal, otherwise a line every few seconds."""

import math
import sys
import time
from contextlib import contextmanager
from typing import Callable, Iterator, Optional

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ..errors import shown_name

# Seconds between lines without a terminal.
_EVERY = 10.0


@contextmanager
def progress(total: Optional[int], done: int, *, unit: str, of: Optional[str] = ''
             ) -> Iterator[Callable[[int], None]]:
    """Show the progress of a loop on stderr: count, rate, time left.

    Args:
        total (int, optional): Expected number of items, None if unknown. There may be more.
        done (int): Number that was done before; it does not affect the rate.
        unit (str): For example ``images``.
        of (str, optional): What the items belong to; None shows nothing.

    Yields:
        Callable: Call it with the number of newly finished items.
    """
    if of is None:
        yield lambda count: None
        return
    console, name = Console(stderr=True), shown_name(of)
    begin, first, last, shown = time.monotonic(), done, time.monotonic(), done

    def line() -> str:
        passed = time.monotonic() - begin
        rate = (done - first) / passed if passed > 0 else 0.0
        of_all = left = ''
        if total is not None and done <= total:
            of_all, left = f' of {total}', f', {(total - done) / (rate or math.inf):.0f} s left'
        return f'{name}{": " if name else ""}{done}{of_all} {unit}, {rate:.3g} {unit}/s{left}'

    def show() -> None:
        nonlocal last, shown
        last, shown = time.monotonic(), done
        print(line(), file=sys.stderr, flush=True)

    columns = BarColumn(), TextColumn('{task.description}', markup=False)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(line(), total=total, completed=done)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.update(task, total=None if total is None else max(total, done), completed=done,
                       description=line())
            if not console.is_terminal and time.monotonic() - last >= _EVERY:
                show()

        yield advance
    if not console.is_terminal and shown != done:
        show()
