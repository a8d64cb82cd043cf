"""Journals of finished work, so that an interrupted run can continue.

A single process writes ``journal.jsonl``. Workers and shards write ``journal.I-of-N.jsonl``, workers of a
shard ``journal.I-of-N.J-of-M.jsonl``. Each file has one writer, so network file systems without locks
suffice. A single process that continues a job first takes over all lines, see :func:`absorb`.
"""

import errno
import json
import os
import re
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

from ..errors import UsageError
from .workers import Part

try:
    import fcntl
    _LOCKS = True
except ImportError:  # on Windows; there the user must keep two processes apart
    _LOCKS = False

NAME = 'journal.jsonl'
_PARTS = re.compile(r'journal(\.\d+-of-\d+){1,2}\.jsonl')
_RESTART = 'start again with --restart, or use another --out'


class Place(NamedTuple):
    """Position of a line in a journal.

    Attributes:
        path (Path): The file.
        offset (int): Start of the line, in bytes.
    """

    path: Path
    offset: int

    def line(self) -> bytes:
        """The line."""
        with open(self.path, 'rb') as file:
            file.seek(self.offset)
            return file.readline()


class Journal:
    """Batches of results in a JSON Lines file. The first line holds the settings of the run.

    Only complete lines count, since a process may be killed at any moment.

    Args:
        folder (Path): The results folder; it exists.
        settings (dict): The settings that the results depend on, for JSON.
        restart (bool): Start over, whatever the file holds.
        name (str): File name.
        shards (bool): Also read the journals of all parts.

    Raises:
        UsageError: If the existing results have other settings, if another process is using the folder, or
            if the file is not a journal.
    """

    def __init__(self, folder: Path, settings: Dict[str, Any], *, restart: bool = False, name: str = NAME,
                 shards: bool = False) -> None:
        self.path = Path(folder) / name
        #: The settings as stored in the file.
        self.settings: Dict[str, Any] = json.loads(json.dumps(settings))
        self._shards = shards
        self._last: Optional[Tuple[Place, Dict[str, Any]]] = None
        self._file = open(self.path, 'ab+')  # noqa: SIM115  (open until close)
        lock(self._file, folder)
        if restart:
            self._file.truncate(0)
        self._file.seek(0)
        # A killed process may leave an incomplete last line.
        self._file.truncate(sum(len(line) for line in self._file if line.endswith(b'\n')))
        self._file.seek(0)
        first, second = self._file.readline(), self._file.readline()
        try:
            before: Any = json.loads(first)['settings'] if first else None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f'{self.path} is not a journal of detections, or it is damaged: {_RESTART}',
                             'bad-journal') from error
        if before != self.settings:
            if second:
                self._file.close()
                raise _other_settings(self.path, before, self.settings)
            self._file.truncate(0)
            self.write([json.dumps(dict(settings=self.settings)).encode() + b'\n'])

    def append(self, **batch: Any) -> None:
        """Write a batch to disk."""
        self.write([json.dumps(batch).encode() + b'\n'])

    def write(self, lines: Iterable[bytes]) -> None:
        """Write lines to disk."""
        try:
            self._file.writelines(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UsageError(f'{self.path} cannot be written ({error.strerror}): free some space, then run '
                             'the same command again; it continues', 'output-failed') from error

    def close(self) -> None:
        """Release the lock, so that others can write."""
        with suppress(OSError):  # the disk is full, which was already reported
            self._file.close()

    def _files(self) -> List[Path]:
        """The journals to read, the one of the job first."""
        folder = self.path.parent
        found = [folder / NAME, *(part_journals(folder) if self._shards else []), self.path]
        return list(dict.fromkeys(path for path in found if path.exists()))

    def places(self) -> Iterator[Tuple[Place, Dict[str, Any]]]:
        """All complete lines. Raises a UsageError if a journal has other settings."""
        for path in self._files():
            yield from _lines(path, self.settings)

    def read(self, place: Place) -> Dict[str, Any]:
        """The batch at a place; the last one is cached."""
        if self._last is None or self._last[0] != place:
            self._last = place, json.loads(place.line())
        return self._last[1]

    def drawn(self) -> Dict[str, Any]:
        """The ``score`` each input was drawn with; None if it is not drawn, or if that is unknown."""
        known: Dict[str, Any] = {}
        of_parts: Dict[str, Any] = {}
        for path in self._files():
            mine: Dict[str, Any] = {}
            for _, batch in _lines(path, self.settings):
                if 'score' in batch:
                    # An image is drawn before its line is written.
                    mine.update(dict.fromkeys(
                        [*(record['input'] for record in batch['records']), *batch.get('drawn', ())],
                        batch['score']))
            if path.name == NAME:
                known = mine
                continue
            # It is unknown which of two parts was written later. If they disagree, draw again.
            of_parts.update({each: score if of_parts.get(each, score) == score else None
                             for each, score in mine.items()})
        return {**known, **of_parts}


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


def absorb(journal: Journal, order: Dict[str, int], *, restart: bool = False) -> None:
    """Take over the lines of the parts, then delete their files.

    If the process is killed in between, both files hold the same lines, which does no harm.

    Args:
        journal (Journal): Gets the lines.
        order (dict[str, int]): Position of each input among all. New lines are sorted by it.
        restart (bool): Only delete.

    Raises:
        UsageError: If a part has other settings, or if its process is running.
    """
    folder = journal.path.parent
    with ExitStack() as opened:
        parts = [opened.enter_context(closing(Journal(
            folder, journal.settings, restart=restart, name=path.name)))
                 for path in part_journals(folder, below=journal.path.name)]
        places = sorted((_rank(batch, order), place) for part in parts
                        for place, batch in _lines(part.path, part.settings))
        if places:
            journal.write(place.line() for _, place in places)
        for part in parts:
            part.path.unlink()


def journal_name(*parts: Part) -> str:
    """Name of the journal of a job, a shard, a worker, or a worker of a shard."""
    words = [f'{part.number}-of-{part.count}' for part in parts if part.count > 1]
    return '.'.join([Path(NAME).stem, *words, 'jsonl'])


def part_journals(folder: Path, *, below: str = NAME) -> List[Path]:
    """Journals of the parts in a folder; with ``below``, only of the parts of that job or shard."""
    begin = below[:-len('jsonl')]
    return sorted(path for path in folder.iterdir()
                  if _PARTS.fullmatch(path.name) and path.name.startswith(begin) and path.name != below)


def has_journal(folder: Union[str, Path]) -> bool:
    """Whether a folder has the journal of a job or of a part."""
    try:
        return any(map(_is_journal, [Path(folder, NAME), *part_journals(Path(folder))]))
    except OSError:
        return False


def _is_journal(path) -> bool:
    if not os.path.isfile(path):  # opening a named pipe would block
        return False
    try:
        with open(path, 'rb') as file:
            return 'settings' in json.loads(file.readline(2 ** 24))
    except (OSError, ValueError, TypeError):
        return False


def _lines(path: Path, settings: Dict[str, Any]) -> Iterator[Tuple[Place, Dict[str, Any]]]:
    offset = 0
    with suppress(FileNotFoundError), open(path, 'rb') as file:  # another process may have absorbed it
        for line in file:
            if not line.endswith(b'\n'):  # incomplete: the process is writing, or was killed
                return
            try:
                batch = json.loads(line)
            except ValueError as error:
                raise UsageError(f'{path} is damaged at byte {offset}: {_RESTART}', 'bad-journal') from error
            if offset:
                yield Place(path, offset), batch
            elif batch.get('settings') != settings:
                if not file.readline():  # nothing was done with these settings
                    return
                raise _other_settings(path, batch.get('settings') or {}, settings)
            offset += len(line)


def _other_settings(path: Path, before: Dict[str, Any], now: Dict[str, Any]) -> UsageError:
    changes = []
    for key in {**before, **now}:
        values = [str(before.get(key)), str(now.get(key))]
        if before.get(key) != now.get(key):
            # A hash tells the reader nothing.
            changes.append(f'{key} differs' if max(map(len, values)) >= 32 else
                           f'{key} {values[0]}, now {values[1]}')
    return UsageError(f'{path} has results with other settings ({", ".join(changes)}): use the same settings '
                      f'for all shards, {_RESTART}', 'bad-journal')


def _rank(batch, order: Dict[str, int]) -> Tuple[int, int]:
    """Sort key: lines in the order of all inputs, frames of a video in frame order."""
    last = len(order)
    if batch['records']:
        first = batch['records'][0]
        return order.get(first['input'], last), first.get('frame', 0)
    ended = [batch['ended']] if 'ended' in batch else batch['drawn']
    return max((order.get(path, last) for path in ended), default=last), 2 ** 62
