"""Videos in a folder of results: detect, draw, note, and go on after an interruption."""

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..errors import UsageError
from .frames import Frames
from .inferencer import DEQDetInferencer
from .inputs import PICTURES, Source
from .journals import Journals, Place
from .progress import progress
from .results import record_of, sample_of
from .videos import Frame, detect_frames, pack, unpack, video_name, write_video

# Frames between lines of the journal, each with the equilibrium that the next frame starts from.
_BATCH = 20


def video_of(source: Source, out: Path) -> Path:
    """The video with boxes of a video."""
    return out / PICTURES / video_name(source.name)


@dataclass
class _Known:
    """What the journals have of a video.

    Attributes:
        places (list[tuple[int, Place]]): Number of the first frame of each line, and the line.
        ended (bool): Whether it was read to its end.
    """

    places: List[Tuple[int, Place]] = field(default_factory=list)
    ended: bool = False


class VideoRun:
    """Detection in videos, frame by frame, with a journal.

    An MP4 file that was interrupted cannot be gone on with: what was found is drawn again, without detecting.

    Args:
        inferencer (DEQDetInferencer): The detector.
        sources (Sequence[Source]): Video files, or folders of frames.
        journals (Journals): What was done before.
        out (Path): Folder of the results.
        warm (bool): Start each frame at the equilibrium of the last.
    """

    unit = 'videos'

    def __init__(self, inferencer: DEQDetInferencer, sources: Sequence[Source], journals: Journals,
                 out: Path, *, warm: bool = True) -> None:
        self._inferencer, self._journals, self._out, self._warm = inferencer, journals, out, warm
        self._sources = list(sources)
        self._index: Optional[Dict[str, _Known]] = None

    def items(self) -> List[Source]:
        """The videos: one worker has the whole of one."""
        return list(self._sources)

    def left(self, items: Sequence[Source], score: Optional[float] = None) -> List[Source]:
        """Videos that are not done.

        Args:
            items (Sequence[Source]): Of these.
            score (float, optional): They are drawn from this score on; with None that is no matter.
        """
        # What is no video is reported before the first is done.
        stamps = [Frames(Path(source.path)).stamp() for source in items]
        drawn = {} if score is None else self._journals.drawn(_drawn_by)
        for source, stamp in zip(items, stamps):
            self._state(source, stamp)  # it has not changed
        return [source for source in items
                if not (self._known(source).ended and (score is None or drawn.get(source.path) == score
                                                       and video_of(source, self._out).exists()))]

    def run(self, items: Sequence[Source], *, score: Optional[float], of: Optional[str] = '',
            **settings: Any) -> None:
        """Detect in videos.

        Args:
            items (Sequence[Source]): Those that are not done.
            score (float, optional): Videos have what scores more; None writes none.
            of (str, optional): Whose share it is, for the progress; with None there is none.
            **settings: ``steps``, ``tol``, ``solver``.

        Raises:
            UsageError: If a video cannot be read or written.
        """
        for source in items:
            name = None if of is None else f'{of}: {source.name}' if of else source.name
            self._run_one(source, Frames(Path(source.path)), score, name, settings)

    def redraw(self, items: Sequence[Source], score: float) -> None:
        """Nothing: a video that is not drawn is not done."""

    def records(self) -> Iterator[Dict[str, Any]]:
        """What was found in each frame."""
        return (dict(record, name=source.name) for source in self._sources
                for record in self._entries(source) if 'broken' not in record)

    def broken(self) -> List[Tuple[str, str]]:
        """Frames that could not be read, and videos that are truncated; and why."""
        return [(record['file'], record['broken']) for source in self._sources
                for record in self._entries(source) if 'broken' in record]

    def _known(self, source: Source) -> _Known:
        if self._index is None:
            self._index = {source.path: _Known() for source in self._sources}
            for place, batch in self._journals.places():
                path = batch['records'][0]['input'] if batch['records'] else batch.get('ended')
                if path not in self._index:
                    continue
                if batch['records']:
                    self._index[path].places.append((batch['records'][0]['frame'], place))
                self._index[path].ended |= batch.get('ended') == path
            for known in self._index.values():
                known.places.sort(key=lambda each: each[0])
        return self._index[source.path]

    def _batches(self, source: Source) -> Iterator[Dict[str, Any]]:
        """The lines of a video, each frame once: two workers may have detected in it."""
        count = 0
        for first, place in self._known(source).places:
            if first == count:
                batch = self._journals.read(place)
                count += len(batch['records'])
                yield batch

    def _entries(self, source: Source) -> Iterator[Dict[str, Any]]:
        """All that the journals have of each frame."""
        return (record for batch in self._batches(source) for record in batch['records'])

    def _state(self, source: Source, stamp) -> Tuple[int, Optional[Dict[str, Any]]]:
        """Number of known frames, and the equilibrium of the last one."""
        known, state = 0, None
        for batch in self._batches(source):
            if batch['stamp'] != stamp:
                raise UsageError(f'{source.path} has changed since the results in {self._out} were made: '
                                 'begin anew with --restart, or give another folder with --out')
            known += len(batch['records'])
            state = batch['state']
        return known, state

    def _run_one(self, source: Source, frames: Frames, score, name, settings):
        stamp = frames.stamp()
        known, state = self._state(source, stamp)
        ended = self._known(source).ended
        target = video_of(source, self._out)
        device = next(self._inferencer.model.parameters()).device
        last = unpack(state, device)
        records: List[dict] = []
        count = known

        def note(record):
            nonlocal records, count
            count += 1
            records.append(record)
            if len(records) == _BATCH:
                self._journals.append(records=records, stamp=stamp, state=pack(last))
                records = []
            advance(1)

        found = detect_frames(self._inferencer, Path(source.path), warm=self._warm, first=known, last=last,
                              on_broken=lambda read: note(dict(
                                  input=source.path, frame=count, file=read.name, broken=read.reason)),
                              **settings)
        everything: Iterator[Frame] = chain(self._read_again(source), found)
        if score is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            everything = write_video(self._inferencer, everything, target, rate=frames.rate, score=score)
        elif known:
            everything = found
        with progress(frames.count, known, unit='frames', of=name) as advance:
            for frame in everything:
                if frame.number < known:
                    continue
                last = frame.equilibrium
                note(record_of(frame.sample, input=source.path, frame=frame.number,
                               refinements=frame.refinements))
        if not ended:  # that there are no more frames only reading to the end can tell
            self._journals.append(records=records, stamp=stamp, state=None, ended=source.path)
        if score is not None:
            self._journals.append(records=[], drawn=source.path, score=score)
        self._index = None

    def _read_again(self, source) -> Iterator[Frame]:
        """Frames of which the journals have the detections."""
        for record, read in zip(self._entries(source), Frames(Path(source.path)).read()):
            if 'broken' not in record and read.image is not None:
                yield Frame(record['frame'], read.image, sample_of(record), record['refinements'])


def _drawn_by(batch: Dict[str, Any]) -> List[str]:
    """The video that was drawn before a line was written."""
    return [batch['drawn']] if 'drawn' in batch else []
