"""Several journals in one folder: that of the job, and one of each worker or shard.

``journal.jsonl`` is that of a process alone. Workers and shards write ``journal.I-of-N.jsonl``, workers of a
shard ``journal.I-of-N.J-of-M.jsonl``. Nobody writes the file of another, so file systems without locks
between machines will do. Who goes on alone first takes over the lines of the others, see :func:`absorb`.
"""

import json
import os
import re
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..errors import UsageError
from .journal import NAME, Journal, changes, is_journal, lock
from .parts import WHOLE, Part

_PARTS = re.compile(r'journal(\.\d+-of-\d+){1,2}\.jsonl')


def journal_name(*parts: Part) -> str:
    """Name of a journal: of the job, of a shard, of a worker, or of a worker of a shard."""
    words = [f'{part.number}-of-{part.count}' for part in parts if part.count > 1]
    return '.'.join([Path(NAME).stem, *words, 'jsonl'])


def part_journals(folder: Path, *, below: str = NAME) -> List[Path]:
    """Journals of parts in a folder.

    Args:
        folder (Path): The folder.
        below (str): Name of a journal; only parts of that job or shard.
    """
    begin = below[:-len('jsonl')]
    return sorted(path for path in folder.iterdir()
                  if _PARTS.fullmatch(path.name) and path.name.startswith(begin) and path.name != below)


@dataclass(frozen=True)
class Place:
    """A line of a journal.

    Attributes:
        path (Path): The file.
        offset (int): Where the line begins, in bytes.
    """

    path: Path
    offset: int


class Journals:
    """All journals that a process reads, and the one that it writes.

    Args:
        own (Journal): What is written.
        shards (bool): Those of all parts are read, too.
    """

    def __init__(self, own: Journal, *, shards: bool = False) -> None:
        self._own, self._shards = own, shards
        self._last: Optional[Tuple[Place, Dict[str, Any]]] = None

    def append(self, **batch: Any) -> None:
        """Add a batch to the own journal; it is on the disk afterwards."""
        self._own.append(**batch)

    def files(self) -> List[Path]:
        """The journals, that of the job first."""
        folder = self._own.path.parent
        found = [folder / NAME, *(part_journals(folder) if self._shards else []), self._own.path]
        return list(dict.fromkeys(path for path in found if path.exists()))

    def places(self) -> Iterator[Tuple[Place, Dict[str, Any]]]:
        """All complete lines.

        Raises:
            UsageError: If a journal belongs to other settings.
        """
        for path in self.files():
            yield from _lines(path, self._own.settings)

    def read(self, place: Place) -> Dict[str, Any]:
        """A batch; the one that was read last is at hand."""
        if self._last is None or self._last[0] != place:
            with open(place.path, 'rb') as file:
                file.seek(place.offset)
                self._last = place, json.loads(file.readline())
        return self._last[1]

    def drawn(self) -> Dict[str, Optional[float]]:
        """From which score on an input is drawn; None where it is not drawn, or where it is not known."""
        known: Dict[str, Optional[float]] = {}
        of_parts: Dict[str, Optional[float]] = {}
        for path in self.files():
            mine: Dict[str, Optional[float]] = {}
            for _, batch in _lines(path, self._own.settings):
                if 'score' in batch:
                    # Images are drawn before their line is written.
                    mine.update(dict.fromkeys([record['input'] for record in batch['records']] +
                                              _several(batch.get('drawn', [])), batch['score']))
                    if not batch['records'] and 'drawn' not in batch:  # all that was there
                        mine = dict.fromkeys(mine, batch['score'])
            if path.name == NAME:
                known = mine
                continue
            # Which of two parts was written later is not known: what they disagree on is drawn again.
            of_parts.update({each: score if of_parts.get(each, score) == score else None
                             for each, score in mine.items()})
        return {**known, **of_parts}


def _lines(path: Path, settings: Dict[str, Any]) -> Iterator[Tuple[Place, Dict[str, Any]]]:
    offset = 0
    with suppress(FileNotFoundError), open(path, 'rb') as file:  # another process may have taken it over
        for line in file:
            if not line.endswith(b'\n'):  # half of a line, of a process that writes or was killed
                return
            try:
                batch = json.loads(line)
            except ValueError as error:
                raise UsageError(f'{path} is damaged at byte {offset}: begin anew with --restart, or give '
                                 'another folder with --out') from error
            if offset:
                yield Place(path, offset), batch
            elif batch.get('settings') != settings:
                if not file.readline():  # nothing was done with them
                    return
                change = changes(batch.get('settings') or {}, settings)
                raise UsageError(f'{path} holds results of another setting ({change}): give all shards the '
                                 'same settings, or another folder with --out')
            offset += len(line)


def absorb(journal: Journal, settings: Dict[str, Any], order: Dict[str, int], *, restart: bool = False
           ) -> None:
    """Take over the lines of parts, then delete their files.

    A process that is killed in between leaves lines in both, which say the same.

    Args:
        journal (Journal): Gets the lines.
        settings (dict): Those of the journal.
        order (dict[str, int]): Place of each input among all. New lines come in this order.
        restart (bool): Delete only.

    Raises:
        UsageError: If a part has other settings, or if its process is at work.
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
    """The inputs of a line come in the order of all inputs, the frames of a video in their own."""
    last = len(order)
    if batch['records']:
        first = batch['records'][0]
        return order.get(first['input'], last), first.get('frame', 0)
    ended = _several(batch.get('ended', batch.get('drawn', [])))
    return max((order.get(path, last) for path in ended), default=last), 2 ** 62


def _several(paths) -> List[str]:
    """A list of paths; lines of earlier versions have one path by itself."""
    return [paths] if isinstance(paths, str) else list(paths)


def _raw(file, offset) -> bytes:
    file.seek(offset)
    return file.readline()


@contextmanager
def beside_others(folder: Path, part: Part) -> Iterator[None]:
    """A shard may run beside other shards, but not beside a process that takes over their lines.

    Args:
        folder (Path): That of the results.
        part (Part): The shard; of :data:`WHOLE` nothing is done.

    Raises:
        UsageError: If there is such a process.
    """
    if part == WHOLE:
        yield
        return
    with open(folder / NAME, 'ab') as file:
        lock(file, folder, shared=True)
        yield


def names_of(parts: Sequence[Part]) -> str:
    """Some shards, for a message."""
    return ', '.join(map(str, parts[:8])) + (f' and {len(parts) - 8} more' if len(parts) > 8 else '')


def has_journal(folder: str) -> bool:
    """Whether a folder has the journal of a job, or of a part of one."""
    if is_journal(os.path.join(folder, NAME)):
        return True
    try:
        return any(map(is_journal, part_journals(Path(folder))))
    except OSError:
        return False
