"""Several journals in one folder: one of the job, and one of each worker or shard.

A single process writes ``journal.jsonl``. Workers and shards write ``journal.I-of-N.jsonl``, workers of a
shard ``journal.I-of-N.J-of-M.jsonl``. Each file has one writer, so network file systems without locks
suffice. A single process that continues a job first takes over all lines, see :func:`absorb`.
"""

import json
import os
import re
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..errors import UsageError
from .journal import NAME, RESTART, Journal, changes, is_journal, lock
from .parts import WHOLE, Part

_PARTS = re.compile(r'journal(\.\d+-of-\d+){1,2}\.jsonl')


def journal_name(*parts: Part) -> str:
    """Name of the journal of a job, a shard, a worker, or a worker of a shard."""
    words = [f'{part.number}-of-{part.count}' for part in parts if part.count > 1]
    return '.'.join([Path(NAME).stem, *words, 'jsonl'])


def part_journals(folder: Path, *, below: str = NAME) -> List[Path]:
    """Journals of the parts in a folder; with ``below``, only of the parts of that job or shard."""
    begin = below[:-len('jsonl')]
    return sorted(path for path in folder.iterdir()
                  if _PARTS.fullmatch(path.name) and path.name.startswith(begin) and path.name != below)


@dataclass(frozen=True)
class Place:
    """Position of a line in a journal.

    Attributes:
        path (Path): The file.
        offset (int): Start of the line, in bytes.
    """

    path: Path
    offset: int


class Journals:
    """All journals that a process reads, and the one that it writes.

    Args:
        own (Journal): The journal to write.
        shards (bool): Also read the journals of all parts.
    """

    def __init__(self, own: Journal, *, shards: bool = False) -> None:
        self._own, self._shards = own, shards
        self._last: Optional[Tuple[Place, Dict[str, Any]]] = None

    def append(self, **batch: Any) -> None:
        """Write a batch to the own journal, on disk."""
        self._own.append(**batch)

    def files(self) -> List[Path]:
        """The journals, the one of the job first."""
        folder = self._own.path.parent
        found = [folder / NAME, *(part_journals(folder) if self._shards else []), self._own.path]
        return list(dict.fromkeys(path for path in found if path.exists()))

    def places(self) -> Iterator[Tuple[Place, Dict[str, Any]]]:
        """All complete lines. Raises a UsageError if a journal has other settings."""
        for path in self.files():
            yield from _lines(path, self._own.settings)

    def read(self, place: Place) -> Dict[str, Any]:
        """The batch at a place; the last one is cached."""
        if self._last is None or self._last[0] != place:
            with open(place.path, 'rb') as file:
                file.seek(place.offset)
                self._last = place, json.loads(file.readline())
        return self._last[1]

    def drawn(self) -> Dict[str, Optional[float]]:
        """The score limit each input was drawn with; None if it is not drawn, or if that is unknown."""
        known: Dict[str, Optional[float]] = {}
        of_parts: Dict[str, Optional[float]] = {}
        for path in self.files():
            mine: Dict[str, Optional[float]] = {}
            for _, batch in _lines(path, self._own.settings):
                if 'score' in batch:
                    # An image is drawn before its line is written.
                    mine.update(dict.fromkeys([record['input'] for record in batch['records']] +
                                              _several(batch.get('drawn', [])), batch['score']))
                    if not batch['records'] and 'drawn' not in batch:  # applies to all inputs so far
                        mine = dict.fromkeys(mine, batch['score'])
            if path.name == NAME:
                known = mine
                continue
            # It is unknown which of two parts was written later. If they disagree, draw again.
            of_parts.update({each: score if of_parts.get(each, score) == score else None
                             for each, score in mine.items()})
        return {**known, **of_parts}


def _lines(path: Path, settings: Dict[str, Any]) -> Iterator[Tuple[Place, Dict[str, Any]]]:
    offset = 0
    with suppress(FileNotFoundError), open(path, 'rb') as file:  # another process may have absorbed it
        for line in file:
            if not line.endswith(b'\n'):  # incomplete: the process is writing, or was killed
                return
            try:
                batch = json.loads(line)
            except ValueError as error:
                raise UsageError(f'{path} is damaged at byte {offset}: {RESTART}', 'bad-journal') from error
            if offset:
                yield Place(path, offset), batch
            elif batch.get('settings') != settings:
                if not file.readline():  # nothing was done with these settings
                    return
                change = changes(batch.get('settings') or {}, settings)
                raise UsageError(f'{path} has results with other settings ({change}): use the same settings '
                                 'for all shards, or another --out', 'bad-journal')
            offset += len(line)


def absorb(journal: Journal, settings: Dict[str, Any], order: Dict[str, int], *, restart: bool = False
           ) -> None:
    """Take over the lines of the parts, then delete their files.

    If the process is killed in between, both files hold the same lines, which does no harm.

    Args:
        journal (Journal): Gets the lines.
        settings (dict): Settings of the journal.
        order (dict[str, int]): Position of each input among all. New lines are sorted by it.
        restart (bool): Only delete.

    Raises:
        UsageError: If a part has other settings, or if its process is running.
    """
    folder = journal.path.parent
    for path in part_journals(folder, below=journal.path.name) if restart else ():
        with closing(Journal(folder, settings, restart=True, name=path.name)):
            path.unlink()
    with ExitStack() as opened:
        parts = [opened.enter_context(closing(Journal(folder, settings, name=path.name)))
                 for path in part_journals(folder, below=journal.path.name)]
        files = [opened.enter_context(open(part.path, 'rb')) for part in parts]
        lines = sorted((_rank(batch, order), number, place.offset) for number, part in enumerate(parts)
                       for place, batch in _lines(part.path, part.settings))
        if lines:
            journal.copy(_raw(files[number], offset) for _, number, offset in lines)
        for part in parts:
            part.path.unlink()


def _rank(batch, order: Dict[str, int]) -> Tuple[int, int]:
    """Sort key: lines in the order of all inputs, frames of a video in frame order."""
    last = len(order)
    if batch['records']:
        first = batch['records'][0]
        return order.get(first['input'], last), first.get('frame', 0)
    ended = _several(batch.get('ended', batch.get('drawn', [])))
    return max((order.get(path, last) for path in ended), default=last), 2 ** 62


def _several(paths) -> List[str]:
    """A list of paths. Earlier versions wrote a single path."""
    return [paths] if isinstance(paths, str) else list(paths)


def _raw(file, offset) -> bytes:
    file.seek(offset)
    return file.readline()


@contextmanager
def beside_others(folder: Path, part: Part) -> Iterator[None]:
    """Let a shard run beside other shards, but not beside a process that absorbs their lines.

    Args:
        folder (Path): The results folder.
        part (Part): The shard; nothing is done for :data:`WHOLE`.

    Raises:
        UsageError: If such a process is running.
    """
    if part == WHOLE:
        yield
        return
    with open(folder / NAME, 'ab') as file:
        lock(file, folder, shared=True)
        yield


def names_of(parts: Sequence[Part]) -> str:
    """Names of some shards, for a message."""
    return ', '.join(map(str, parts[:8])) + (f' and {len(parts) - 8} more' if len(parts) > 8 else '')


def has_journal(folder: str) -> bool:
    """Whether a folder has the journal of a job or of a part."""
    if is_journal(os.path.join(folder, NAME)):
        return True
    try:
        return any(map(is_journal, part_journals(Path(folder))))
    except OSError:
        return False
