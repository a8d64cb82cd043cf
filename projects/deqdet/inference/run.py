"""Detection in any number of pictures or videos: detect, draw, note, and go on after an interruption."""

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
from .journals import Journals, Place
from .painting import VideoFile, picture_name, video_name, write_picture
from .progress import progress
from .reading import Frame
from .results import pack, record_of, sample_of, unpack
from .streams import Detected

# Frames between lines of the journal, each with the equilibrium that the next frame starts from.
_FRAMES_A_LINE = 20

#: What one worker does: the images of a batch, or a video.
Item = List[Input]

#: What was found, and a line for the journal where one is complete.
Found = Tuple[List[Detected], Optional[Dict[str, Any]]]


@dataclass
class _Known:
    """What the journals have of an input, as its file is now.

    Attributes:
        places (dict[int, tuple[Place, int]]): Where each frame is: the line, and the record in it. An image
            is frame 0.
        ended (bool): Whether nothing is left to detect in.
    """

    places: Dict[int, Tuple[Place, int]] = field(default_factory=dict)
    ended: bool = False


class Run:
    """Detection with a journal: in images, batch by batch, or in videos, frame by frame.

    A batch has neighbours of the whole list of images, whatever was done before and whoever does it: images
    of a batch are padded to one size, which changes scores a little. A picture whose line is not in the
    journal yet is drawn again. An MP4 file cannot be continued: after an interruption its first frames are
    drawn again from the journal, without detecting.

    Args:
        inferencer (DEQDetInferencer): The detector.
        inputs (Sequence[Input]): The images, or the videos.
        journals (Journals): What was done before.
        out (Path): Folder of the results.
        videos (bool): The inputs are videos: files, or folders of frames.
        batch_size (int): Images at a time.
        warm (bool): Start each frame at the equilibrium of the last.
    """

    def __init__(self, inferencer: DEQDetInferencer, inputs: Sequence[Input], journals: Journals, out: Path,
                 *, videos: bool = False, batch_size: int = 1, warm: bool = True) -> None:
        self._inferencer, self._journals, self._out = inferencer, journals, out
        self._inputs = {each.path: each for each in inputs}
        self._videos, self._batch_size, self._warm = videos, 1 if videos else batch_size, warm
        self._index: Optional[Dict[str, _Known]] = None
        # Of files as this run has met them: what changes later is for the next run.
        self._stamps: Dict[str, Optional[List[Any]]] = {}

    def items(self) -> List[Item]:
        """All there is to do, in units that one worker does."""
        inputs = list(self._inputs.values())
        return [inputs[first:first + self._batch_size] for first in range(0, len(inputs), self._batch_size)]

    def left(self, items: Sequence[Item], score: Optional[float] = None) -> List[Item]:
        """What is not done of some items.

        Args:
            items (Sequence[list[Input]]): The items.
            score (float, optional): Also what is not drawn from this score on; None leaves drawing out.
        """
        drawn = {} if score is None else self._journals.drawn()

        def is_left(each: Input) -> bool:
            if not self._known(each).ended:
                return True
            if score is None or drawn.get(each.path) == score and self._target(each).exists():
                return False
            return any('broken' not in record for record in self._records(each))

        rest = ([each for each in item if is_left(each)] for item in items)
        return [item for item in rest if item]

    def run(self, items: Sequence[Item], *, score: Optional[float], of: Optional[str] = '',
            **settings: Any) -> None:
        """Do what is left of some items.

        Args:
            items (Sequence[list[Input]]): What :meth:`left` gives.
            score (float, optional): Pictures and videos have what scores more; None draws none.
            of (str, optional): Whose share it is, for the progress; with None there is none.
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
            # A share has no images that are done.
            total = left if of or of is None else len(self._inputs)
            with progress(total, total - left, unit='images', of=of) as advance:
                for item in items:
                    paths = (each.path for each in item if self._known(each).ended)
                    self._do(item, self._inferencer.images(paths), score, advance, settings)
        self._index = None

    def records(self) -> Iterator[Dict[str, Any]]:
        """What was found in each image or frame, in order."""
        return (record for each in self._inputs.values() for record in self._records(each)
                if 'broken' not in record)

    def broken(self) -> List[Tuple[str, str]]:
        """Files that could not be read, frames among them; and why."""
        return [(record.get('file', record['input']), record['broken']) for each in self._inputs.values()
                for record in self._records(each) if 'broken' in record]

    def _do(self, item: Item, frames: Iterable[Frame], score, advance, settings) -> None:
        """Draw again what the journals have of an item, then detect in the rest of it.

        Args:
            frames (Iterable[Frame]): The images that are known, or all frames of the video.
        """
        frames = iter(frames)
        known = [each for each in item if self._known(each).places]
        records = (record for each in known for record in self._records(each))
        with self._drawing(item, score) as draw:
            for record, frame in zip(records, frames):  # takes no frame more than there are records
                if 'broken' not in record and frame.image is not None:
                    draw(Detected(frame.input, sample_of(record), '', frame.image, frame.number,
                                  record.get('refinements')))
            for found, line in self._in_video(item[0], frames, settings) if self._videos else \
                    self._in_images([each for each in item if each not in known], score, settings):
                for each in found:
                    if each.sample is not None:
                        draw(each)
                if line is not None:
                    self._journals.append(**line)
                advance(len(found))
        if score is not None and (known or self._videos):
            drawn = item if self._videos else known
            self._journals.append(records=[], drawn=[each.path for each in drawn], score=score)

    @contextmanager
    def _drawing(self, item: Item, score: Optional[float]) -> Iterator[Callable[[Detected], None]]:
        """What draws pictures, or the frames of a video."""
        if score is None:
            yield lambda found: None
        elif self._videos:
            with VideoFile(self._target(item[0]), Frames(item[0].path).rate) as file:
                yield lambda found: file.write(self._painted(found, score), found.refinements)
        else:
            yield lambda found: write_picture(self._target(self._inputs[str(found.input)]),
                                              self._painted(found, score))

    def _painted(self, found: Detected, score: float) -> np.ndarray:
        return self._inferencer.paint(found.image, found.sample, score=score)

    def _in_images(self, images: Item, score, settings) -> Iterator[Found]:
        inputs = {each.path: each for each in images}
        for batch in self._inferencer.batches(list(inputs), self._batch_size, **settings) if inputs else ():
            records = [_record(found, input=path, name=inputs[path].name, stamp=self._stamp(path))
                       for found, path in ((found, str(found.input)) for found in batch)]
            yield batch, dict(records=records, score=score)

    def _in_video(self, video: Input, frames: Iterable[Frame], settings) -> Iterator[Found]:
        if self._known(video).ended:
            return
        # The stamp that the known frames were compared with: what changes later is for the next run.
        stamp = self._stamps[video.path] if video.path in self._stamps else self._stamp(video.path)
        last, records = self._state(video), []
        for found in self._inferencer.frames(frames, warm=self._warm, start=last, **settings):
            about = dict(input=video.path, frame=found.number)
            if found.sample is None:
                records.append(_record(found, **about, file=found.input))
            else:
                last = found.sample.get('equilibrium')
                records.append(_record(found, **about, refinements=found.refinements))
            full = len(records) == _FRAMES_A_LINE
            yield [found], dict(records=records, stamp=stamp, state=pack(last)) if full else None
            records = [] if full else records
        # That there are no more frames only reading to the end can tell.
        yield [], dict(records=records, stamp=stamp, state=None, ended=video.path)

    def _state(self, video: Input) -> Optional[Equilibrium]:
        """The equilibrium of the last frame that is known."""
        places = self._known(video).places
        number = sum(1 for _ in self._records(video))
        device = next(self._inferencer.model.parameters()).device
        return unpack(self._journals.read(places[number - 1][0])['state'], device) if number else None

    def _records(self, each: Input) -> Iterator[Dict[str, Any]]:
        """All that the journals have of an input, frame by frame."""
        places = self._known(each).places
        for number in takewhile(places.__contains__, count()):
            place, position = places[number]
            yield dict(self._journals.read(place)['records'][position], name=each.name)

    def _known(self, each: Input) -> _Known:
        if self._index is None:
            self._index = self._read_journals()
        return self._index.get(each.path) or _Known()

    def _read_journals(self) -> Dict[str, _Known]:
        """What is known of each input; lines do not count where the file has changed since."""
        index: Dict[str, _Known] = {}

        def known_of(path: str, stamp) -> _Known:
            if path in self._inputs and path not in self._stamps:
                self._stamp(path)
            same = path in self._inputs and self._stamps[path] == stamp
            return index.setdefault(path, _Known()) if same else _Known()

        for place, line in self._journals.places():
            for number, record in enumerate(line['records']):
                known = known_of(record['input'], record.get('stamp', line.get('stamp')))
                known.places[record.get('frame', 0)] = place, number
                known.ended |= 'frame' not in record
            if 'ended' in line:
                known_of(line['ended'], line['stamp']).ended = True
        return index

    def _stamp(self, path: str) -> Optional[List[Any]]:
        stamp = self._stamps[path] = stamp_of(path)
        return stamp

    def _target(self, each: Input) -> Path:
        return target_of(each, self._out, videos=self._videos)


def _record(found: Detected, **about: Any) -> Dict[str, Any]:
    """An entry of a journal."""
    if found.sample is None:
        return dict(**about, broken=found.reason)
    return record_of(found.sample, **about)


def target_of(each: Input, out: Path, *, videos: bool) -> Path:
    """The picture or video with the boxes of an input."""
    return out / PICTURES / (video_name(each.name) if videos else picture_name(each.name))


def check_targets(inputs: Sequence[Input], out: Path, *, videos: bool) -> None:
    """No picture or video takes the place of an input.

    Raises:
        UsageError: If one would.
    """
    files = {os.path.realpath(each.path) for each in inputs if not is_address(each.path)}
    for each in inputs:
        target = target_of(each, out, videos=videos)
        if os.path.realpath(target) in files:
            raise UsageError(f'{target} is an input, and would be overwritten: give another folder with '
                             '--out')
