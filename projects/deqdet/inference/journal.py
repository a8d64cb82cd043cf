"""What a run has done so far, so that an interrupted one goes on."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

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

    Raises:
        UsageError: If the results that are there were made with other settings, if another process is at
            work there, or if the file is none of ours.
    """

    def __init__(self, folder: Path, settings: Dict[str, Any], *, restart: bool = False) -> None:
        self.path = Path(folder) / NAME
        settings = json.loads(json.dumps(settings))
        self._file = open(self.path, 'ab+')  # noqa: SIM115  (open until close)
        self._lock(folder)
        if restart:
            self._file.truncate(0)
        self._drop_torn_line()
        before = self._settings()
        if before != settings and not self._file.readline():  # nothing was done yet
            self._file.truncate(0)
            self._write(dict(settings=settings))
        elif before is not None and before != settings:
            names = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
            changed = ', '.join(_change(key, before.get(key), settings.get(key)) for key in names)
            self._file.close()
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

    def close(self) -> None:
        """Let others write."""
        with suppress(OSError):  # of a full disk, which was told before
            self._file.close()

    def _lock(self, folder):
        try:
            if _LOCKS:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UsageError(f'{folder}: another process is writing results there: wait for it, or give '
                             'another folder with --out') from error

    def _write(self, entry):
        try:
            self._file.write(json.dumps(entry).encode() + b'\n')
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


def _change(key, before, now) -> str:
    values: List[str] = [str(value) for value in (before, now)]
    # Hashes say nothing.
    return f'{key} is another' if max(map(len, values)) >= 32 else f'{key} {values[0]}, now {values[1]}'
