"""Videos in a folder of results: detect, draw, note, and go on after an interruption."""

from itertools import chain
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..errors import UsageError
from .frames import Frames
from .inferencer import DEQDetInferencer
from .inputs import PICTURES, Source
from .journal import Journal
from .progress import progress
from .results import record_of, sample_of
from .videos import Frame, detect_frames, pack, unpack, video_name, write_video

# Frames between lines of the journal, each with the equilibrium that the next frame starts from.
_BATCH = 20


def video_of(source: Source, out: Path) -> Path:
    """The video with boxes of a video."""
    return out / PICTURES / video_name(source.name)


class VideoRun:
    """Detection in videos, frame by frame, with a journal.

    An MP4 file that was interrupted cannot be gone on with: what was found is drawn again, without detecting.

    Args:
        inferencer (DEQDetInferencer): The detector.
        sources (Sequence[Source]): Video files, or folders of frames.
        journal (Journal): What was done before.
        out (Path): Folder of the results.
    """

    def __init__(self, inferencer: DEQDetInferencer, sources: Sequence[Source], journal: Journal,
                 out: Path) -> None:
        self._inferencer, self._journal, self._out = inferencer, journal, out
        self._sources = list(sources)

    def run(self, *, warm: bool, score: Optional[float], **settings: Any) -> None:
        """Detect in what is not done yet.

        Args:
            warm (bool): Start each frame at the equilibrium of the last.
            score (float, optional): Videos have what scores more; None writes none.
            **settings: ``steps``, ``tol``, ``solver``.

        Raises:
            UsageError: If a video cannot be read or written.
        """
        videos = {source.path: Frames(Path(source.path)) for source in self._sources}
        for source in self._sources:
            self._run_one(source, videos[source.path], warm, score, settings)

    def records(self) -> Iterator[Dict[str, Any]]:
        """What was found in each frame."""
        names = {source.path: source.name for source in self._sources}
        return (dict(record, name=names[record['input']]) for record in self._entries()
                if 'broken' not in record)

    def broken(self) -> List[Tuple[str, str]]:
        """Frames that could not be read, and videos that are truncated; and why."""
        return [(record['file'], record['broken']) for record in self._entries() if 'broken' in record]

    def _entries(self) -> Iterator[Dict[str, Any]]:
        """All that the journal has of each frame."""
        paths = {source.path for source in self._sources}
        return (record for batch in self._journal for record in batch['records'] if record['input'] in paths)

    def _run_one(self, source: Source, frames: Frames, warm, score, settings):
        known, state, drawn, ended, stamp = 0, None, None, False, frames.stamp()
        for batch in self._journal:
            if batch.get('drawn') == source.path:
                drawn = batch['score']
            if batch.get('ended') == source.path:
                ended = True
            if batch['records'] and batch['records'][0]['input'] == source.path:
                if batch['stamp'] != stamp:
                    raise UsageError(f'{source.path} has changed since the results in {self._out} were made: '
                                     'begin anew with --restart, or give another folder with --out')
                known += len(batch['records'])
                state = batch['state']
        target = video_of(source, self._out)
        if ended and (score is None or drawn == score and target.exists()):
            return
        device = next(self._inferencer.model.parameters()).device
        last = unpack(state, device)
        records: List[dict] = []
        count = known

        def note(record):
            nonlocal records, count
            count += 1
            records.append(record)
            if len(records) == _BATCH:
                self._journal.append(records=records, stamp=stamp, state=pack(last))
                records = []
            advance(1)

        found = detect_frames(self._inferencer, Path(source.path), warm=warm, first=known, last=last,
                              on_broken=lambda read: note(dict(
                                  input=source.path, frame=count, file=read.name, broken=read.reason)),
                              **settings)
        everything: Iterator[Frame] = chain(self._known(source), found)
        if score is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            everything = write_video(self._inferencer, everything, target, rate=frames.rate, score=score)
        elif known:
            everything = found
        with progress(frames.count, known, unit='frames', of=source.name) as advance:
            for frame in everything:
                if frame.number < known:
                    continue
                last = frame.equilibrium
                note(record_of(frame.sample, input=source.path, frame=frame.number,
                               refinements=frame.refinements))
        if not ended:  # that there are no more frames only reading to the end can tell
            self._journal.append(records=records, stamp=stamp, state=None, ended=source.path)
        if score is not None:
            self._journal.append(records=[], drawn=source.path, score=score)

    def _known(self, source) -> Iterator[Frame]:
        """Frames of which the journal has the detections."""
        records = (record for record in self._entries() if record['input'] == source.path)
        for record, read in zip(records, Frames(Path(source.path)).read()):
            if 'broken' not in record and read.image is not None:
                yield Frame(record['frame'], read.image, sample_of(record), record['refinements'])
