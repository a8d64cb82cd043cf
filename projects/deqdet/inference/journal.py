"""What a run has done so far, so that an interrupted one goes on."""

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
except ImportError:  # not on Windows, where two processes are the user's to keep apart
    _LOCKS = False

NAME = 'journal.jsonl'


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
    """Batches of results in a file of JSON lines, after one line with the settings that they were made with.

    A line counts when it is complete. A process may be killed at any moment.

    Args:
        folder (Path): The folder of the results; it is there.
        settings (dict): What results depend on, for JSON.
        restart (bool): Begin anew, whatever is there.
        name (str): That of the file.

    Raises:
        UsageError: If the results that are there were made with other settings, if another process is at
            work there, or if the file is none of ours.
    """

    def __init__(self, folder: Path, settings: Dict[str, Any], *, restart: bool = False, name: str = NAME
                 ) -> None:
        self.path = Path(folder) / name
        settings = json.loads(json.dumps(settings))
        #: As they are in the file.
        self.settings: Dict[str, Any] = settings
        self._file = open(self.path, 'ab+')  # noqa: SIM115  (open until close)
        lock(self._file, folder)
        if restart:
            self._file.truncate(0)
        self._drop_torn_line()
        before = self._settings()
        if before != settings and not self._file.readline():  # nothing was done yet
            self._file.truncate(0)
            self._write(dict(settings=settings))
        elif before is not None and before != settings:
            self._file.close()
            changed = changes(before, settings)
            raise UsageError(f'{folder} holds results of another setting ({changed}): begin anew with '
                             '--restart, or give another folder with --out')

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        """The batches, from the file."""
        with open(self.path, encoding='utf-8') as file:
            file.readline()
            for line in file:
                yield json.loads(line)

    def append(self, **batch: Any) -> None:
        """Add a batch; it is on the disk afterwards."""
        self._write(batch)

    def copy(self, lines: Iterable[bytes]) -> None:
        """Add lines of another journal; they are on the disk afterwards."""
        self._to_disk(lines)

    def close(self) -> None:
        """Let others write."""
        with suppress(OSError):  # of a full disk, which was told before
            self._file.close()

    def _write(self, entry):
        self._to_disk([json.dumps(entry).encode() + b'\n'])

    def _to_disk(self, lines):
        try:
            self._file.writelines(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UsageError(f'{self.path} cannot be written ({error.strerror}): make room, then give the '
                             'same command again, which goes on') from error

    def _drop_torn_line(self):
        """What was written when the process was killed."""
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
            raise UsageError(f'{self.path} is no journal of detections, or damaged: begin anew with '
                             '--restart, or give another folder with --out') from error


def lock(file: IO[bytes], folder: Path, *, shared: bool = False) -> None:
    """Keep other processes out, where the file system has locks; some of those between machines have none.

    Args:
        file (IO): Is open; closed if it belongs to another process.
        folder (Path): That of the results, for the message.
        shared (bool): Others may share it.

    Raises:
        UsageError: If it belongs to another process.
    """
    if not _LOCKS:
        return
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
            return
        file.close()
        raise UsageError(f'{folder}: another process is writing results there: wait for it, or give '
                         'another folder with --out') from error


def changes(before: Dict[str, Any], now: Dict[str, Any]) -> str:
    """How two settings differ, for a message."""
    names = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ', '.join(_change(key, before.get(key), now.get(key)) for key in names)


def _change(key, before, now) -> str:
    values: List[str] = [str(value) for value in (before, now)]
    # Hashes say nothing.
    return f'{key} is another' if max(map(len, values)) >= 32 else f'{key} {values[0]}, now {values[1]}'
