"""A journal of finished work, so that an interrupted run can continue."""

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, List, Optional, Union

from ..errors import UsageError

try:
    import fcntl
    _LOCKS = True
except ImportError:  # on Windows; there the user must keep two processes apart
    _LOCKS = False

NAME = 'journal.jsonl'
RESTART = 'start again with --restart, or use another --out'


def is_journal(path: Union[str, Path]) -> bool:
    """Whether a file is the journal of a run."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, 'rb') as file:
            return 'settings' in json.loads(file.readline(2 ** 24))
    except (OSError, ValueError, TypeError):
        return False


class Journal:
    """Batches of results in a JSON Lines file. The first line holds the settings of the run.

    Only complete lines count, since a process may be killed at any moment.

    Args:
        folder (Path): The results folder; it exists.
        settings (dict): The settings that the results depend on, for JSON.
        restart (bool): Start over, whatever the file holds.
        name (str): File name.

    Raises:
        UsageError: If the existing results have other settings, if another process is using the folder, or
            if the file is not a journal.
    """

    def __init__(self, folder: Path, settings: Dict[str, Any], *, restart: bool = False, name: str = NAME
                 ) -> None:
        self.path = Path(folder) / name
        settings = json.loads(json.dumps(settings))
        #: The settings as stored in the file.
        self.settings: Dict[str, Any] = settings
        self._file = open(self.path, 'ab+')  # noqa: SIM115  (open until close)
        lock(self._file, folder)
        if restart:
            self._file.truncate(0)
        self._drop_torn_line()
        before = self._settings()
        if before != settings and not self._file.readline():  # nothing is done yet
            self._file.truncate(0)
            self._write(dict(settings=settings))
        elif before is not None and before != settings:
            self._file.close()
            changed = changes(before, settings)
            raise UsageError(f'{folder} has results with other settings ({changed}): {RESTART}',
                             'bad-journal')

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        """The batches, from the file."""
        with open(self.path, encoding='utf-8') as file:
            file.readline()
            for line in file:
                yield json.loads(line)

    def append(self, **batch: Any) -> None:
        """Write a batch to disk."""
        self._write(batch)

    def copy(self, lines: Iterable[bytes]) -> None:
        """Write lines of another journal to disk."""
        self._to_disk(lines)

    def close(self) -> None:
        """Release the lock, so that others can write."""
        with suppress(OSError):  # the disk is full, which was already reported
            self._file.close()

    def _write(self, entry):
        self._to_disk([json.dumps(entry).encode() + b'\n'])

    def _to_disk(self, lines):
        try:
            self._file.writelines(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UsageError(f'{self.path} cannot be written ({error.strerror}): free some space, then run '
                             'the same command again; it continues', 'output-failed') from error

    def _drop_torn_line(self):
        """Drop an incomplete last line of a killed process."""
        size = self._file.seek(0, os.SEEK_END)
        end = size
        while end:
            begin = max(0, end - 2 ** 20)
            self._file.seek(begin)
            newline = self._file.read(end - begin).rfind(b'\n')
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        if end < size:
            self._file.truncate(end)

    def _settings(self) -> Optional[dict]:
        self._file.seek(0)
        line = self._file.readline()
        try:
            return json.loads(line)['settings'] if line else None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f'{self.path} is not a journal of detections, or it is damaged: {RESTART}',
                             'bad-journal') from error


def lock(file: IO[bytes], folder: Path, *, shared: bool = False) -> None:
    """Lock the folder against other processes. Some network file systems have no locks.

    Args:
        file (IO): An open file; closed if another process holds the lock.
        folder (Path): The results folder, for the message.
        shared (bool): Use a shared lock.

    Raises:
        UsageError: If another process holds the lock.
    """
    if not _LOCKS:
        return
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
            return
        file.close()
        raise UsageError(f'{folder}: another process is writing results there: wait for it, or use another '
                         '--out', 'bad-journal') from error


def changes(before: Dict[str, Any], now: Dict[str, Any]) -> str:
    """Describe how two settings differ, for a message."""
    names = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ', '.join(_change(key, before.get(key), now.get(key)) for key in names)


def _change(key, before, now) -> str:
    values: List[str] = [str(value) for value in (before, now)]
    # A hash tells the reader nothing.
    return f'{key} differs' if max(map(len, values)) >= 32 else f'{key} {values[0]}, now {values[1]}'
