"""Pictures in any number: detect, draw, note, and go on after an interruption."""

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import cv2
import mmcv

from ..errors import UsageError
from .formats import is_address
from .inferencer import DEQDetInferencer
from .inputs import PICTURES, Source, picture_name
from .journals import Journals, Place
from .progress import progress
from .results import record_of, sample_of

_OR_ELSE = 'make room, give another folder with --out, or leave pictures out with --no-pictures'


class FolderRun:
    """Detection in images, batch by batch, with a journal.

    Batches are formed of neighbours among all images, whatever is done of them and whoever does it: images of
    a batch are padded to one size, which changes scores a little. A picture that is there when its line in
    the journal is not was drawn in vain and is drawn again.

    Args:
        inferencer (DEQDetInferencer): The detector.
        sources (Sequence[Source]): The images.
        journals (Journals): What was done before.
        out (Path): Folder of the results.
        batch_size (int): Images at a time.
    """

    unit = 'images'

    def __init__(self, inferencer: DEQDetInferencer, sources: Sequence[Source], journals: Journals,
                 out: Path, *, batch_size: int = 1) -> None:
        self._inferencer, self._journals, self._out = inferencer, journals, out
        self._sources = {source.path: source for source in sources}
        self._batch_size = batch_size
        self._index: Optional[Dict[str, Tuple[Place, int]]] = None

    def items(self) -> List[List[str]]:
        """Paths of the images of each batch."""
        paths = list(self._sources)
        return [paths[first:first + self._batch_size] for first in range(0, len(paths), self._batch_size)]

    def left(self, items: Sequence[Sequence[str]], score: Optional[float] = None) -> List[List[str]]:
        """What is not done of some batches; pictures have no part in it."""
        done = self._current()
        left = ([path for path in item if path not in done] for item in items)
        return [item for item in left if item]

    def run(self, items: Sequence[Sequence[str]], *, score: Optional[float], of: Optional[str] = '',
            **settings: Any) -> None:
        """Detect in batches.

        Args:
            items (Sequence[Sequence[str]]): Of each batch what is not done.
            score (float, optional): Pictures have what scores more; None draws none.
            of (str, optional): Whose share it is, for the progress; with None there is none.
            **settings: ``steps``, ``tol``, ``solver``.

        Raises:
            UsageError: If a picture cannot be written.
        """
        count = sum(map(len, items))
        # A share has no images that are done.
        total = count if of or of is None else len(self._sources)
        with progress(total, total - count, unit=self.unit, of=of) as advance:
            for batch in (each for item in items
                          for each in self._inferencer.batches(item, self._batch_size, **settings)):
                records = []
                for found, sample, reason in batch:
                    path = str(found)
                    source = self._sources[path]
                    about = dict(input=path, name=source.name, stamp=stamp_of(path))
                    if sample is None:
                        records.append(dict(**about, broken=reason))
                        continue
                    if score is not None:
                        self._draw(path, sample, score)
                    records.append(record_of(sample, **about))
                self._journals.append(records=records, score=score)
                self._index = None
                advance(len(batch))

    def redraw(self, items: Sequence[Sequence[str]], score: float) -> None:
        """Pictures of what was found without drawing, or drawn from another score.

        Args:
            items (Sequence[Sequence[str]]): Of these batches.
            score (float): Pictures have what scores more.
        """
        mine = {path for item in items for path in item}
        drawn = self._journals.drawn(_drawn_by)
        again = []
        for record in self._entries():
            path = record['input']
            if path not in mine or 'broken' in record:
                continue
            other = drawn.get(path) != score
            if other or not self._picture(path).exists():
                self._draw(path, sample_of(record), score)
            if other:
                again.append(path)
        if again:
            self._journals.append(records=[], score=score, drawn=again)

    def records(self) -> Iterator[Dict[str, Any]]:
        """What was found in each image, in the order of the images."""
        return (record for record in self._entries() if 'broken' not in record)

    def broken(self) -> List[Tuple[str, str]]:
        """Paths that could not be read, and why."""
        return [(record['input'], record['broken']) for record in self._entries() if 'broken' in record]

    def _entries(self) -> Iterator[Dict[str, Any]]:
        current = self._current()
        for path, source in self._sources.items():
            if path in current:
                place, number = current[path]
                yield dict(self._journals.read(place)['records'][number], name=source.name)

    def _current(self) -> Dict[str, Tuple[Place, int]]:
        """Where the journals have an image, as the file is now; the last line counts."""
        if self._index is None:
            index, stamps = {}, {}
            for place, batch in self._journals.places():
                for number, record in enumerate(batch['records']):
                    path = record['input']
                    if path in self._sources and path not in stamps:
                        stamps[path] = stamp_of(path)
                    if path in stamps and record['stamp'] == stamps[path]:
                        index[path] = place, number
            self._index = index
        return self._index

    def _draw(self, path, sample, score):
        target = self._picture(path)
        picture = self._inferencer.paint(path, sample, score=score)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            written = mmcv.imwrite(picture, str(target))
        except (OSError, cv2.error) as error:
            raise UsageError(f'{target} cannot be written ({error}): {_OR_ELSE}') from error
        if not written:
            raise UsageError(f'{target} cannot be written: {_OR_ELSE}')

    def _picture(self, path) -> Path:
        return picture_of(self._sources[path], self._out)


def picture_of(source: Source, out: Path) -> Path:
    """The picture with boxes of an image."""
    return out / PICTURES / picture_name(source.name)


def _drawn_by(batch: Dict[str, Any]) -> List[str]:
    """Images whose pictures were drawn before a line was written."""
    return [record['input'] for record in batch['records']] + batch.get('drawn', [])


def check_targets(targets: Mapping[Path, str]) -> None:
    """No picture or video takes the place of an input.

    Args:
        targets (Mapping[Path, str]): What will be written, and what it is made from.

    Raises:
        UsageError: If one would.
    """
    inputs = {os.path.realpath(path) for path in targets.values() if not is_address(path)}
    for target in targets:
        if os.path.realpath(target) in inputs:
            raise UsageError(f'{target} is an input, and would be overwritten: give another folder with '
                             '--out')


def stamp_of(path: str) -> Optional[List[int]]:
    """Tells whether a file is still the same; None of one that is not there, and of an address."""
    if is_address(path):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
