"""Detection in images or videos: detect, draw, record, and continue after an interruption."""

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ..errors import UsageError
from ..model.heads.warm_start import Equilibrium
from .formats import is_address
from .frames import Frames, stamp_of
from .inferencer import DEQDetInferencer
from .inputs import PICTURES, Input
from .journal import Journal, Place
from .painting import picture_name, video_file, video_name, write_picture
from .progress import progress
from .reading import Frame
from .results import pack, record_of, sample_of, unpack
from .windows import Tiling

# Frames per line of the journal. Each line stores the equilibrium that the next frame starts from.
_FRAMES_A_LINE = 20

#: The unit of work of one worker: the images of a batch, or one video.
Item = List[Input]

#: The detections, and a line for the journal when one is complete.
Found = Tuple[List[Frame], Optional[Dict[str, Any]]]


@dataclass
class _Known:
    """What the journals know about the current file of an input.

    Attributes:
        places (dict[int, tuple[Place, int]]): Position of each frame: the line, and the record in it. An
            image is frame 0.
        ended (bool): Whether the input is finished.
    """

    places: Dict[int, Tuple[Place, int]] = field(default_factory=dict)
    ended: bool = False


class Run:
    """Detection with a journal: in images, batch by batch, or in videos, frame by frame.

    A batch always consists of the same neighbours in the list of all images, also after an interruption and
    with several workers: images of a batch are padded to one size, which changes scores a little. A picture
    is drawn again if its line is not in the journal yet. An MP4 file cannot be continued: after an
    interruption its first frames are redrawn from the journal, without detecting.

    Args:
        inferencer (DEQDetInferencer): The detector.
        inputs (Sequence[Input]): The images, or the videos.
        journal (Journal): Earlier results.
        out (Path): Results folder.
        videos (bool): The inputs are videos: files, or folders of frames.
        batch_size (int): Images in a batch.
        warm (bool): Start each frame at the equilibrium of the last.
        draw_masks (bool): Draw masks if there are any.
        tiling (Tiling, optional): Detect in windows, ``batch_size`` at a time, image by image.
    """

    def __init__(self, inferencer: DEQDetInferencer, inputs: Sequence[Input], journal: Journal, out: Path,
                 *, videos: bool = False, batch_size: int = 1, warm: bool = True, draw_masks: bool = True,
                 tiling: Optional[Tiling] = None) -> None:
        self._inferencer, self._journal, self._out = inferencer, journal, out
        self._inputs = {each.path: each for each in inputs}
        self._videos, self._batch_size, self._warm = videos, 1 if videos else batch_size, warm
        self._draw_masks, self._tiling = draw_masks, tiling
        self._index: Optional[Dict[str, _Known]] = None
        self._stamps: Dict[str, Optional[List[Any]]] = {}

    def items(self) -> List[Item]:
        """All units of work."""
        inputs, size = list(self._inputs.values()), 1 if self._tiling else self._batch_size
        return [inputs[first:first + size] for first in range(0, len(inputs), size)]

    def left(self, items: Sequence[Item], score: Optional[float] = None) -> List[Item]:
        """The unfinished part of some items.

        Args:
            items (Sequence[list[Input]]): The items.
            score (float, optional): Also include inputs not drawn with this limit; None ignores drawing.
        """
        drawn = {} if score is None else self._journal.drawn()

        def is_left(each: Input) -> bool:
            if not self._known(each).ended:
                return True
            if score is None or drawn.get(each.path) == self._look(score) and self._target(each).exists():
                return False
            return any('broken' not in record for record in self._records(each))

        rest = ([each for each in item if is_left(each)] for item in items)
        return [item for item in rest if item]

    def run(self, items: Sequence[Item], *, score: Optional[float], of: Optional[str] = '',
            **settings: Any) -> None:
        """Process the unfinished part of some items.

        Args:
            items (Sequence[list[Input]]): From :meth:`left`.
            score (float, optional): Draw detections above this score; None draws no pictures or videos.
            of (str, optional): Name of the share in the progress; None shows no progress.
            **settings: ``steps``, ``tol``, ``solver``.

        Raises:
            UsageError: If a video cannot be read, or if a picture or video cannot be written.
        """
        if self._videos:
            for video, in items:
                name = None if of is None else f'{of}: {video.name}' if of else video.name
                frames, known = Frames(video.path), sum(1 for _ in self._records(video))
                with progress(frames.count, known, unit='frames', of=name) as advance:
                    self._do([video], frames, score, advance, settings)
        else:
            left = sum(not self._known(each).ended for item in items for each in item)
            # A share contains no finished images.
            total = left if of or of is None else len(self._inputs)
            with progress(total, total - left, unit='images', of=of) as advance:
                for item in items:
                    paths = (each.path for each in item if self._known(each).ended)
                    self._do(item, self._inferencer.images(paths), score, advance, settings)
        self._index = None

    def records(self) -> Iterator[Dict[str, Any]]:
        """The detections of each image or frame, in order."""
        return (record for each in self._inputs.values() for record in self._records(each)
                if 'broken' not in record)

    def broken(self) -> List[Tuple[str, str]]:
        """Unreadable files and frames, with the reason."""
        return [(record.get('file', record['input']), record['broken']) for each in self._inputs.values()
                for record in self._records(each) if 'broken' in record]

    def _do(self, item: Item, frames: Iterable[Frame], score, advance, settings) -> None:
        """Redraw what the journals have of an item, then detect in the rest of it.

        ``frames`` are the known images, or all frames of the video.
        """
        frames = iter(frames)
        known = [each for each in item if self._known(each).places]
        records = (record for each in known for record in self._records(each))
        with self._drawing(item, score) as draw:
            for record, frame in zip(records, frames):  # consumes no frame beyond the records
                if 'broken' not in record and frame.image is not None:
                    draw(frame._replace(sample=sample_of(record), refinements=record.get('refinements')))
            for found, line in self._in_video(item[0], frames, settings) if self._videos else \
                    self._in_images([each for each in item if each not in known], score, settings):
                for each in found:
                    if each.sample is not None:
                        draw(each)
                if line is not None:
                    self._journal.append(**line)
                advance(len(found))
        if score is not None and (known or self._videos):
            drawn = item if self._videos else known
            self._journal.append(records=[], drawn=[each.path for each in drawn], score=self._look(score))

    @contextmanager
    def _drawing(self, item: Item, score: Optional[float]) -> Iterator[Callable[[Frame], None]]:
        """A function that draws pictures, or the frames of a video."""
        if score is None:
            yield lambda found: None
        elif self._videos:
            with video_file(self._target(item[0]), Frames(item[0].path).rate) as write:
                yield lambda found: write(self._painted(found, score), found.refinements)
        else:
            yield lambda found: write_picture(self._target(self._inputs[str(found.input)]),
                                              self._painted(found, score))

    def _painted(self, found: Frame, score: float) -> np.ndarray:
        return self._inferencer.paint(found.image, found.sample, score=score, draw_masks=self._draw_masks)

    def _look(self, score: Optional[float]) -> Any:
        """What pictures depend on besides the detections, for the journal; None without pictures."""
        return score if score is None or self._draw_masks else [score, 'without masks']

    def _in_images(self, images: Item, score, settings) -> Iterator[Found]:
        inputs = {each.path: each for each in images}
        if self._tiling:
            settings = dict(settings, tile=self._tiling.tile, overlap=self._tiling.overlap)
        for batch in self._inferencer.batches(list(inputs), self._batch_size, **settings) if inputs else ():
            records = []
            for found in batch:
                each = inputs[str(found.input)]
                about = dict(input=each.path, name=each.name, stamp=self._stamp(each.path))
                records.append(dict(**about, broken=found.reason) if found.sample is None else
                               record_of(found.sample, **about))
            yield batch, dict(records=records, score=self._look(score))

    def _in_video(self, video: Input, frames: Iterable[Frame], settings) -> Iterator[Found]:
        if self._known(video).ended:
            return
        stamp = self._stamp(video.path)
        last, records = self._state(video), []
        for found in self._inferencer.frames(frames, warm=self._warm, start=last, **settings):
            about = dict(input=video.path, frame=found.number)
            if found.sample is None:
                records.append(dict(**about, file=found.input, broken=found.reason))
            else:
                last = found.sample.get('equilibrium')
                records.append(record_of(found.sample, **about, refinements=found.refinements))
            full = len(records) == _FRAMES_A_LINE
            yield [found], dict(records=records, stamp=stamp, state=pack(last)) if full else None
            records = [] if full else records
        # Only reading to the end shows that there are no more frames.
        yield [], dict(records=records, stamp=stamp, state=None, ended=video.path)

    def _state(self, video: Input) -> Optional[Equilibrium]:
        """The equilibrium of the last known frame."""
        places = self._known(video).places
        number = sum(1 for _ in self._records(video))
        device = next(self._inferencer.model.parameters()).device
        return unpack(self._journal.read(places[number - 1][0])['state'], device) if number else None

    def _records(self, each: Input) -> Iterator[Dict[str, Any]]:
        """All records of an input in the journals, frame by frame."""
        places = self._known(each).places
        for number in takewhile(places.__contains__, count()):
            place, position = places[number]
            yield dict(self._journal.read(place)['records'][position], name=each.name)

    def _known(self, each: Input) -> _Known:
        if self._index is None:
            self._index = self._read_journals()
        return self._index.get(each.path) or _Known()

    def _read_journals(self) -> Dict[str, _Known]:
        """What is known about each input. Lines do not count if the file has changed since."""
        index: Dict[str, _Known] = {}

        def known_of(path: str, stamp) -> _Known:
            same = path in self._inputs and self._stamp(path) == stamp
            return index.setdefault(path, _Known()) if same else _Known()

        for place, line in self._journal.places():
            for number, record in enumerate(line['records']):
                known = known_of(record['input'], record.get('stamp', line.get('stamp')))
                known.places[record.get('frame', 0)] = place, number
                known.ended |= 'frame' not in record
            if 'ended' in line:
                known_of(line['ended'], line['stamp']).ended = True
        return index

    def _stamp(self, path: str) -> Optional[List[Any]]:
        """The fingerprint when this run first saw the file. Later changes are left to the next run."""
        if path not in self._stamps:
            self._stamps[path] = stamp_of(path)
        return self._stamps[path]

    def _target(self, each: Input) -> Path:
        return target_of(each, self._out, videos=self._videos)


def target_of(each: Input, out: Path, *, videos: bool) -> Path:
    """Path of the picture or video with the boxes of an input."""
    return out / PICTURES / (video_name(each.name) if videos else picture_name(each.name))


def check_targets(inputs: Sequence[Input], out: Path, *, videos: bool) -> None:
    """Raise a UsageError if a picture or video would overwrite an input."""
    files = {os.path.realpath(each.path) for each in inputs if not is_address(each.path)}
    for each in inputs:
        target = target_of(each, out, videos=videos)
        if os.path.realpath(target) in files:
            raise UsageError(f'{target} is an input and would be overwritten: use another --out',
                             'output-exists')
