"""What a person sees while a training or a test runs. Everything else goes to the log file.

The terminal gets a progress bar, a line at the end of each epoch, the metrics of each evaluation, errors, and
messages of this project and of the user's own code. Where the output is no terminal there is no bar, but a
line now and then.
"""

import logging
import os
import re
import sys
import time
import warnings
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..compat.mmdet_imports import import_mmdet

_SECONDS_BETWEEN_DRAWINGS = 0.5

# Of lines within an epoch, where there is no bar.
_SECONDS_BETWEEN_LINES = 600

_MOST_METRICS = 6

_PACKAGE = Path(__file__).resolve().parents[1]

# Folders of installed packages, and of those that are often installed from a checkout.
_INSTALLED = {'site-packages', 'dist-packages', 'mmengine', 'mmcv', 'mmdet'}


@contextmanager
def runner_builder(kind: Any, *, verbose: bool) -> Iterator[Callable[[Config], Runner]]:
    """How to build a Runner; inside, only what a person needs is on the terminal.

    Args:
        kind (type): The Runner or a class derived from it.
        verbose (bool): Leave the terminal as mmengine has it.

    Yields:
        Callable: The Runner of a config.
    """
    terminal = Terminal(shown=os.environ.get('RANK', '0') == '0')

    class TerminalRunner(kind):  # a Runner logs its environment and config before it is built
        def build_logger(self, *args: Any, **kwargs: Any) -> Any:
            return terminal.take(super().build_logger(*args, **kwargs))

    def build(cfg: Config) -> Runner:
        runner = (kind if verbose else TerminalRunner).from_cfg(cfg)
        for message in import_mmdet():
            (runner.logger.info if verbose else terminal.log)(message)
        if not verbose:
            runner.register_hook(TerminalHook(terminal))
        return runner

    if verbose:
        yield build
        return
    with redirect_stdout(_Output(terminal)), warnings.catch_warnings():  # type: ignore[type-var]
        warnings.showwarning = terminal.warn
        try:
            yield build
        finally:
            terminal.close()
    terminal.say_end()


class Terminal(logging.Handler):
    """Shares what a run prints, logs and warns of between the terminal and the log file.

    Args:
        shown (bool): False in all workers but the first: of them only errors are shown.
    """

    def __init__(self, *, shown: bool) -> None:
        super().__init__(logging.INFO if shown else logging.ERROR)
        self.shown = shown
        self.has_bar = shown and sys.stdout.isatty()
        self.console = Console(file=sys.stdout, force_terminal=self.has_bar, markup=False, emoji=False,
                               highlight=False, soft_wrap=True)
        self.progress = Progress(
            TextColumn('{task.description}'), BarColumn(bar_width=None), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn('{task.fields[note]}'), console=self.console, transient=True,
            expand=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False,
            disable=not self.has_bar)
        self._stdout = FileProxy(self.console, sys.stdout) if self.has_bar else sys.stdout
        self._begun = time.monotonic()
        self._drawn = 0.0
        self._logger: Any = None
        self._handlers_before: List[logging.Handler] = []
        self._unlogged: List[str] = []
        self._line = ''
        self._warnings: Set[str] = set(import_mmdet())

    def close(self) -> None:
        """Clear the bar and give the logger back what it had."""
        if self.has_bar:
            self.progress.stop()
        if self._logger is not None:
            self._logger.handlers[:] = self._handlers_before
        super().close()

    def say_end(self) -> None:
        """Say where everything is."""
        if self._warnings:
            self.say(f'{len(self._warnings)} warnings of other packages are in {self.log_file}')
        seconds = timedelta(seconds=round(time.monotonic() - self._begun))
        self.say(f'done in {seconds}: results are in {_short(Path(self._logger.log_file).parents[1])}')

    def take(self, logger: Any) -> Any:
        """Show what a person needs of a logger's messages; its file keeps all of them.

        Args:
            logger (MMLogger): Changed until the end of the run.

        Returns:
            MMLogger: The same.
        """
        self._logger, self._handlers_before = logger, list(logger.handlers)
        # Repeated warnings are shown once, as before.
        for handler in self._handlers_before:
            self.filters += [] if handler in self._files else handler.filters
        logger.handlers[:] = [self, *self._files]
        for line in self._unlogged:
            self.log(line)
        return logger

    @property
    def _files(self) -> List[logging.Handler]:
        return [handler for handler in self._handlers_before if isinstance(handler, logging.FileHandler)]

    @property
    def log_file(self) -> str:
        """Path of the log file."""
        return _short(self._logger.log_file)

    def say(self, line: str) -> None:
        """A line for the terminal, above the bar."""
        if self.shown:
            self.console.print(line)

    def log(self, line: str, level: int = logging.INFO) -> None:
        """A line for the log file only. Before there is one, it is kept."""
        if self._logger is None:
            self._unlogged.append(line)
            return
        record = self._logger.makeRecord(self._logger.name, level, __file__, 0, line, (), None)
        for handler in self._files:
            handler.handle(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Shows messages of this project and of the user, and all errors; counts other warnings."""
        message = record.getMessage()
        if record.levelno >= logging.ERROR or not _is_below(_caller('logging', 'mmengine.logging.logger')):
            level = '' if record.levelno < logging.WARNING else f'{record.levelname.lower()}: '
            self.console.print(level + message)
        elif record.levelno >= logging.WARNING:
            self._warnings.add(message)

    def print(self, text: str, file: str) -> None:
        """What the code in a file prints."""
        if not _is_below(file):
            if self.shown:
                self._stdout.write(text)
            return
        *lines, self._line = (self._line + text).split('\n')
        for line in lines:
            self.log(line)

    def warn(self, message: Any, category: Any, filename: str, lineno: int, file: Any = None,
             line: Optional[str] = None) -> None:
        """What code warns of, as ``warnings.showwarning`` gets it."""
        self.log(warnings.formatwarning(message, category, filename, lineno, line), logging.WARNING)
        # Those of deprecation are for developers, whoever called the function.
        of_others = _is_below(_caller('warnings', '_py_warnings'))
        if of_others or issubclass(category, (DeprecationWarning, FutureWarning)):
            self._warnings.add(str(message))
        else:
            self.say(f'warning: {message}')

    def bar_is_due(self) -> bool:
        """Whether the bar was not drawn for a moment. The caller then draws it."""
        due = self.has_bar and time.monotonic() - self._drawn > _SECONDS_BETWEEN_DRAWINGS
        if due:
            self._drawn = time.monotonic()
        return due


class _Output:
    """Standard output of a run."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._stream = sys.stdout

    def write(self, text: str) -> int:
        self._terminal.print(text, sys._getframe(1).f_code.co_filename)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@cache
def _is_below(file: str) -> bool:
    """Whether a file is code of a package that this project and the user's code build on."""
    path = Path(file)
    return _PACKAGE not in path.parents and not _INSTALLED.isdisjoint(path.parts)


def _short(path: Any) -> str:
    return min(os.path.relpath(path), os.path.abspath(path), key=len)


def _caller(*machinery: str) -> str:
    """File of the code that called into these modules, and through them into this one."""
    frame: Any = sys._getframe(1)
    while frame.f_globals.get('__name__') in (__name__, *machinery):
        frame = frame.f_back
    return frame.f_code.co_filename


class TerminalHook(Hook):
    """Tells the terminal where a run is.

    Args:
        terminal (Terminal): What shows it.
    """

    # After the hooks that save: what is shown as done is done.
    priority = 'VERY_LOW'

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._progress = terminal.progress
        self._tasks: Dict[str, Any] = {}
        self._told = time.monotonic()

    def before_train(self, runner: Runner) -> None:
        epochs = f'{runner.max_epochs} epochs, ' if _by_epoch(runner) else ''
        self._terminal.say(
            f'training: {epochs}{runner.max_iters} iterations; the log is {self._terminal.log_file}')
        self._begin('train', _place(runner), runner.max_iters, done=runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        self._go_on('train', runner.iter + 1, lambda: dict(description=_place(runner), note=_losses(runner)))
        if not self._terminal.has_bar and time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._tell(f'{_place(runner)}, iteration {runner.iter + 1}/{runner.max_iters}', runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if _by_epoch(runner):
            self._tell(_place(runner), runner)

    def after_train(self, runner: Runner) -> None:
        if not _by_epoch(runner):
            self._tell(_place(runner), runner)
        self._end('train')

    def before_val_epoch(self, runner: Runner) -> None:
        self._begin('val', 'evaluation', len(runner.val_dataloader))

    def before_test_epoch(self, runner: Runner) -> None:
        images = len(runner.test_dataloader.dataset)
        self._terminal.say(f'test: {images} images; the log is {self._terminal.log_file}')
        self._begin('test', 'test', len(runner.test_dataloader))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Any = None) -> None:
        self._go_on('val', batch_idx + 1)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                        outputs: Any = None) -> None:
        self._go_on('test', batch_idx + 1)

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        self._end('val')
        self._terminal.say(f'evaluation: {_words(metrics or {})}')

    def after_test_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        self._end('test')
        if metrics:
            self._terminal.say(f'test: {_words(metrics)}')

    def _begin(self, mode: str, description: str, total: int, done: int = 0) -> None:
        self._progress.start()
        self._tasks[mode] = self._progress.add_task(description, total=total, completed=done, note='')

    def _go_on(self, mode: str, done: int, changes: Callable[[], dict] = dict) -> None:
        if mode in self._tasks:
            self._progress.update(self._tasks[mode], completed=done)
            if self._terminal.bar_is_due():
                self._progress.update(self._tasks[mode], refresh=True, **changes())

    def _end(self, mode: str) -> None:
        if mode in self._tasks:
            self._progress.remove_task(self._tasks.pop(mode))
            self._progress.refresh()

    def _tell(self, place: str, runner: Runner) -> None:
        self._told = time.monotonic()
        task = next((task for task in self._progress.tasks if task.id == self._tasks.get('train')), None)
        left = task.time_remaining if task else None
        left = f', {timedelta(seconds=round(left))} left' if left else ''
        self._terminal.say(f'{place}: {_losses(runner)}{left}')


def _by_epoch(runner: Runner) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def _place(runner: Runner) -> str:
    if _by_epoch(runner):
        return f'epoch {min(runner.epoch + 1, runner.max_epochs)}/{runner.max_epochs}'
    return 'training'


def _losses(runner: Runner) -> str:
    """The loss and the losses of the last supervised state, means of the iterations that the log averages."""
    window = runner.log_processor.window_size
    scalars = runner.message_hub.log_scalars
    means = {name[len('train/'):]: scalar.mean(window) for name, scalar in scalars.items()
             if name.startswith('train/') and 'loss' in name}
    parts = [re.fullmatch(r'(?P<state>.*?)[_.]?loss_(?P<kind>\w+)', name) for name in means]
    found = [part for part in parts if part]
    words = f'loss {means["loss"]:.2f}' if 'loss' in means else ''
    if found:
        last = found[-1]['state']
        of_last = [f'{part["kind"]} {means[part.string]:.3f}' for part in found if part['state'] == last]
        words += f' ({" ".join(filter(None, [last, *of_last]))})'
    return words


def _words(metrics: Mapping[str, Any]) -> str:
    """The first metrics, without the name of the data set's format."""
    numbers = [f'{name.split("/")[-1]} {value:.3f}' for name, value in metrics.items()
               if isinstance(value, (int, float))]
    return ', '.join(numbers[:_MOST_METRICS])
