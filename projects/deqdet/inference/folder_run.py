"""Pictures in any number: detect, draw, note, and go on after an interruption."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import cv2
import mmcv

from ..errors import UsageError
from .formats import is_address
from .inferencer import DEQDetInferencer
from .inputs import PICTURES, Source, picture_name
from .journal import Journal
from .progress import progress
from .results import record_of, sample_of

_OR_ELSE = 'make room, give another folder with --out, or leave pictures out with --no-pictures'


class FolderRun:
    """Detection in images, batch by batch, with a journal.

    A picture that is there when its line in the journal is not was drawn in vain and is drawn again.

    Args:
        inferencer (DEQDetInferencer): The detector.
        sources (Sequence[Source]): The images.
        journal (Journal): What was done before.
        out (Path): Folder of the results.
    """

    def __init__(self, inferencer: DEQDetInferencer, sources: Sequence[Source], journal: Journal,
                 out: Path) -> None:
        self._inferencer, self._journal, self._out = inferencer, journal, out
        self._sources = {source.path: source for source in sources}

    def run(self, *, batch_size: int, score: Optional[float], **settings: Any) -> None:
        """Detect in what is not done yet.

        Args:
            batch_size (int): Images at a time.
            score (float, optional): Pictures have what scores more; None draws none.
            **settings: ``steps``, ``tol``, ``solver``.

        Raises:
            UsageError: If a picture cannot be written.
        """
        done = self._done()
        todo = [path for path in self._sources if path not in done]
        with progress(len(self._sources), len(done), unit='images') as advance:
            if score is not None:
                self._draw_rest(score)
            for batch in self._inferencer.batches(todo, batch_size, **settings):
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
                self._journal.append(records=records, score=score)
                advance(len(batch))

    def records(self) -> Iterator[Dict[str, Any]]:
        """What was found in each image, in the order in which it was found."""
        return (record for record, current in self._entries() if current and 'broken' not in record)

    def broken(self) -> List[Tuple[str, str]]:
        """Paths that could not be read, and why."""
        return [(record['input'], record['broken']) for record, current in self._entries()
                if current and 'broken' in record]

    def _entries(self) -> Iterator[Tuple[Dict[str, Any], bool]]:
        """All that the journal has of an image, and whether it is of the file as it is; the last counts."""
        entries = Counter(record['input'] for batch in self._journal for record in batch['records'])
        for batch in self._journal:
            for record in batch['records']:
                path = record['input']
                entries[path] -= 1
                yield (dict(record, name=self._sources[path].name) if path in self._sources else record,
                       path in self._sources and not entries[path] and record['stamp'] == stamp_of(path))

    def _done(self) -> set:
        return {record['input'] for record, current in self._entries() if current}

    def _draw_rest(self, score):
        """Pictures of what was found without drawing, or drawn from another score."""
        drawn = {}
        for batch in self._journal:
            drawn.update({record['input']: batch['score'] for record in batch['records']})
            if not batch['records']:  # see below
                drawn = dict.fromkeys(drawn, batch['score'])
        again = False
        for record in self.records():
            path = record['input']
            again |= drawn[path] != score
            if drawn[path] != score or not self._picture(path).exists():
                self._draw(path, sample_of(record), score)
        if again:
            # All pictures are of this score from here on.
            self._journal.append(records=[], score=score)

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
