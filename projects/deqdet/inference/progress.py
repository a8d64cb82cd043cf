"""A bar on a terminal, a line now and then elsewhere."""

import sys
import time
from contextlib import contextmanager
from typing import Callable, Iterator, Optional

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import shown_name

# Seconds between lines where there is no terminal.
_EVERY = 10.0


@contextmanager
def progress(total: Optional[int], done: int, *, unit: str, of: Optional[str] = ''
             ) -> Iterator[Callable[[int], None]]:
    """Show how far a loop is, on stderr: count, rate, time left.

    Args:
        total (int, optional): All there is to do; None if it is unknown. More may come.
        done (int): What was done before; it has no part in the rate.
        unit (str): For example ``images``.
        of (str, optional): What they belong to; with None nothing is shown.

    Yields:
        Callable: Gets how many more are done.
    """
    if of is None:
        yield lambda count: None
        return
    of = shown_name(of)
    begin, first = time.monotonic(), done

    def rate():
        passed = time.monotonic() - begin
        return (done - first) / passed if passed > 0 else 0.0

    def line():
        name = f'{of}: ' if of else ''
        if total is None or done > total:
            return f'{name}{done} {unit}, {rate():.3g} {unit}/s'
        left = (total - done) / rate() if rate() else 0.0
        return f'{name}{done} of {total} {unit}, {rate():.3g} {unit}/s, {left:.0f} s left'

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn('{task.description}', markup=False), BarColumn(), MofNCompleteColumn(),
                   TextColumn('{task.fields[rate]}'), TimeRemainingColumn(), TextColumn('left'))
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(of or unit, total=total, completed=done, rate='')

            def advance_bar(count):
                nonlocal done
                done += count
                most = None if total is None else max(total, done)
                bar.update(task, total=most, completed=done, rate=f'{rate():.3g} {unit}/s')

            yield advance_bar
        return
    last, shown = begin, done

    def advance(count):
        nonlocal done, last
        done += count
        if time.monotonic() - last >= _EVERY:
            show()

    def show():
        nonlocal last, shown
        last, shown = time.monotonic(), done
        print(line(), file=sys.stderr, flush=True)

    yield advance
    if shown != done:
        show()
