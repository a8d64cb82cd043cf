"""Output for the user while a training or a test runs. Everything else goes to the log file.

The terminal gets a progress bar, a line at the end of each epoch, the metrics of each evaluation, errors, and
messages of this project and of the user's code. If it is no terminal, a line from time to time replaces the
bar.
"""

import re
import time
import warnings
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import timedelta
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..compat.imports import import_mmdet
from .terminal import Output, Terminal

# Between lines within an epoch, if there is no bar.
_SECONDS_BETWEEN_LINES = 600

_MOST_METRICS = 6
# With boxes and masks: the first metrics of masks are AP, AP50 and AP75.
_MASKS, _MOST_OF_MASKS = 'segm_', 3


@contextmanager
def runner_builder(kind: Any, *, verbose: bool, shown: bool = True) -> Iterator[Callable[[Config], Runner]]:
    """A function to build a Runner. Inside, the terminal shows only what the user needs.

    Args:
        kind (type): The Runner or a class derived from it.
        verbose (bool): Do not change mmengine's output.
        shown (bool): False in all workers except the first: these show only errors.

    Yields:
        Callable: The Runner of a config.
    """
    terminal = Terminal(shown=shown)

    class TerminalRunner(kind):  # a Runner logs its environment and config before it is complete
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
    with redirect_stdout(Output(terminal)), warnings.catch_warnings():
        warnings.showwarning = terminal.warn
        try:
            yield build
        finally:
            terminal.close()
    terminal.say_end()


class TerminalHook(Hook):
    """Reports the progress of a run to the terminal."""

    # Runs after the hooks that save, so that what it shows as done is done.
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

    def _after_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None,
                    mode: str = 'train') -> None:
        """Of validation and test."""
        self._go_on(mode, batch_idx + 1)

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        self._end('val')
        self._terminal.say(f'evaluation: {_words(metrics or {})}')

    def after_test_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        self._end('test')
        if metrics:
            self._terminal.say(f'test: {_words(metrics)}')

    def _begin(self, mode: str, description: str, total: int, done: int = 0) -> None:
        self._progress.start()
        self._terminal.console.show_cursor(True)  # also if the process is killed later
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
        line = f'{place}: {_losses(runner)}'
        if left:
            line += f', {timedelta(seconds=round(left))} left'
        self._terminal.say(line)


def _by_epoch(runner: Runner) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def _place(runner: Runner) -> str:
    if _by_epoch(runner):
        return f'epoch {min(runner.epoch + 1, runner.max_epochs)}/{runner.max_epochs}'
    return 'training'


def _losses(runner: Runner) -> str:
    """The loss, and the losses of the last supervised state: means over the log's window of iterations."""
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
    """The first metrics, also those of masks, without the name of the data set's format."""
    numbers: Tuple[List[str], List[str]] = [], []
    for name, value in metrics.items():
        word = name.split('/')[-1]
        with suppress(TypeError, ValueError):  # values that are no numbers
            numbers[word.startswith(_MASKS)].append(f'{word} {float(value):.3f}')
    others, masks = numbers
    return ', '.join(others[:_MOST_METRICS] + masks[:_MOST_OF_MASKS if others else _MOST_METRICS])
