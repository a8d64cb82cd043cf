"""The terminal of a run, shared by the user and all code that prints, logs and warns."""

import logging
import os
import sys
import time
import warnings
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, List, Optional, Set

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..compat.imports import import_mmdet

_SECONDS_BETWEEN_DRAWINGS = 0.5

_PACKAGE = Path(__file__).resolve().parents[1]

# Folders of installed packages, and of packages that are often installed from a checkout.
_INSTALLED = {'site-packages', 'dist-packages', 'mmengine', 'mmcv', 'mmdet'}


class Terminal(logging.Handler):
    """Divides prints, log messages and warnings of a run between the terminal and the log file.

    Args:
        shown (bool): False in all workers except the first: these show only errors.
    """

    def __init__(self, *, shown: bool) -> None:
        super().__init__(logging.INFO if shown else logging.ERROR)
        self.shown = shown
        self.has_bar = shown and sys.stdout.isatty()
        stream: Any = _Stream(sys.stdout)
        self.console = Console(file=stream, force_terminal=self.has_bar, markup=False, emoji=False,
                               highlight=False, soft_wrap=True)
        self.progress = Progress(
            TextColumn('{task.description}'), BarColumn(bar_width=None), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn('{task.fields[note]}'), console=self.console, transient=True,
            expand=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False,
            disable=not self.has_bar)
        self._stdout = FileProxy(self.console, stream) if self.has_bar else stream
        self._begun = time.monotonic()
        self._drawn = 0.0
        self._logger: Any = None
        self._handlers_before: List[logging.Handler] = []
        self._unlogged: List[str] = []
        self._line = ''
        self._warnings: Set[str] = set(import_mmdet())

    def close(self) -> None:
        """Remove the bar and restore the logger's handlers."""
        if self._line:
            self.log(self._line)
        if self.has_bar:
            self._stdout.flush()  # a print of the user without a line break
            self.progress.stop()
        if self._logger is not None:
            self._logger.handlers[:] = self._handlers_before
        super().close()

    def say_end(self) -> None:
        """Print where the results are."""
        if self._warnings:
            self.say(f'{len(self._warnings)} warnings of other packages are in {self.log_file}')
        seconds = timedelta(seconds=round(time.monotonic() - self._begun))
        self.say(f'done in {seconds}: results are in {_short(Path(self._logger.log_file).parents[1])}')

    def take(self, logger: Any) -> Any:
        """Show the messages of a logger that the user needs; its file keeps all of them.

        Args:
            logger (MMLogger): Changed until the end of the run, and returned.
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
        """Print a line on the terminal, above the bar."""
        if self.shown:
            self.console.print(line)

    def log(self, line: str, level: int = logging.INFO) -> None:
        """Write a line only to the log file. It is kept until the file exists."""
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
        """Handle a print of the code in a file."""
        if not _is_below(file):
            if self.shown:
                self._stdout.write(text)
            return
        *lines, self._line = (self._line + text).split('\n')
        for line in lines:
            self.log(line)

    def warn(self, message: Any, category: Any, filename: str, lineno: int, file: Any = None,
             line: Optional[str] = None) -> None:
        """Handle a warning; it replaces ``warnings.showwarning``."""
        self.log(warnings.formatwarning(message, category, filename, lineno, line), logging.WARNING)
        # Deprecation warnings are for developers, even if the user's code called the function.
        of_others = _is_below(_caller('warnings', '_py_warnings'))
        if of_others or issubclass(category, (DeprecationWarning, FutureWarning)):
            self._warnings.add(str(message))
        else:
            self.say(f'warning: {message}')

    def bar_is_due(self) -> bool:
        """Whether the bar was not drawn for a short time. If so, the caller draws it."""
        due = self.has_bar and time.monotonic() - self._drawn > _SECONDS_BETWEEN_DRAWINGS
        if due:
            self._drawn = time.monotonic()
        return due


class _Stream:
    """A stream that may be gone (closed terminal, end of a pipe) or lack letters: the run continues."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, 'backslashreplace').decode(encoding))
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Output:
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
    """Whether a file belongs to a package that this project and the user's code build on."""
    path = Path(file)
    return _PACKAGE not in path.parents and not _INSTALLED.isdisjoint(path.parts)


def _short(path: Any) -> str:
    return min(os.path.relpath(path), os.path.abspath(path), key=len)


def _caller(*machinery: str) -> str:
    """File of the code that called these modules, which then called this one."""
    frame: Any = sys._getframe(1)
    while frame.f_globals.get('__name__') in (__name__, *machinery):
        frame = frame.f_back
    return frame.f_code.co_filename
