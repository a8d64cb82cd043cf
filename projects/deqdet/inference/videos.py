"""Videos frame by frame, each frame from the equilibrium of the last."""

import base64
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, NamedTuple, Optional

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample

from ..errors import UsageError, shown_name
from ..model.heads import PredictionSettings
from ..model.heads.warm_start import Equilibrium
from .frame_detector import FrameDetector, VideoWriter
from .frames import Frames, ReadFrame
from .settings import settings_of

if TYPE_CHECKING:
    from .inferencer import DEQDetInferencer


class Frame(NamedTuple):
    """A frame and what was found in it.

    Attributes:
        number (int): From 0.
        image (np.ndarray): BGR, uint8, has shape (H, W, 3).
        sample (:obj:`DetDataSample`): ``pred_instances``.
        refinements (int, optional): How many it took; None of a decoder without an equilibrium.
        equilibrium (Equilibrium, optional): Where the next frame may start.
    """

    number: int
    image: np.ndarray
    sample: DetDataSample
    refinements: Optional[int] = None
    equilibrium: Optional[Equilibrium] = None


def video_name(name: str) -> str:
    """Name of the video with boxes; OpenCV takes none that cannot be encoded."""
    name = shown_name(name)
    return name if name.lower().endswith('.mp4') else f'{name}.mp4'


def solves_equilibrium(inferencer: 'DEQDetInferencer') -> bool:
    """Whether frames can share what the decoder solves."""
    return hasattr(getattr(inferencer.model, 'roi_head', None), 'equilibrium')


def detect_frames(inferencer: 'DEQDetInferencer', path: Path, *, warm: bool = True, first: int = 0,
                  last: Optional[Equilibrium] = None,
                  on_broken: Optional[Callable[[ReadFrame], None]] = None,
                  settings: Optional[PredictionSettings] = None, **decoding: Any) -> Iterator[Frame]:
    """Detect in a video, in order.

    Args:
        inferencer (DEQDetInferencer): The detector.
        path (Path): Video file, or folder of frames.
        warm (bool): Start each frame at the equilibrium of the last one. Of a decoder without an equilibrium
            it must be False.
        first (int): Number of the first frame to detect in.
        last (Equilibrium, optional): That of the frame before it.
        on_broken (Callable, optional): Gets each frame that cannot be read, in whose place nothing comes; the
            next frame starts at the one before it. Without it such a frame is an error.
        settings (PredictionSettings, optional): How each frame is solved; or, in its place,
        **decoding: ``steps``, ``tol``, ``solver``.

    Raises:
        UsageError: If there are no frames, or one cannot be read, or the decoder has no equilibrium to share.
    """
    if warm and not solves_equilibrium(inferencer):
        raise UsageError(f'{path}: the decoder, {type(inferencer.model.roi_head).__name__}, solves no '
                         'equilibrium that frames could share: say --cold (in Python warm=False)')
    if settings is None:  # now, not at the first frame
        settings = settings_of(inferencer.model, **decoding)
    detector = None
    if solves_equilibrium(inferencer):
        detector = FrameDetector(inferencer.model, inferencer.cfg, warm=warm, settings=settings)
        detector.last = last
    return _detect(inferencer, detector, path, first, on_broken, settings)


def _detect(inferencer, detector, path, first, on_broken, settings) -> Iterator[Frame]:
    for number, read in enumerate(Frames(path).read()):
        if number < first:
            continue
        if read.image is None and on_broken is not None:
            on_broken(read)
            continue
        image = read.whole()
        if detector is None:
            (_, data), = inferencer.preprocess([image])
            sample, = inferencer.forward(data, settings=settings)
            yield Frame(number, image, sample)
            continue
        sample = detector(image)
        yield Frame(number, image, sample, sample.equilibrium.refinements, sample.equilibrium)


def write_video(inferencer: 'DEQDetInferencer', frames: Iterable[Frame], out: Path, *, rate: float = 0,
                score: float = 0.3) -> Iterator[Frame]:
    """Hand frames on, and write them with boxes; the refinements that each took are in its corner.

    Args:
        inferencer (DEQDetInferencer): Paints.
        frames (Iterable[Frame]): All frames in order.
        out (Path): The .mp4. It gets its name when it is complete.
        rate (float): Frames a second.
        score (float): What scores more is drawn.
    """
    with _written_whole(out) as aside:
        writer = VideoWriter(aside, rate or 10.0)
        try:
            for frame in frames:
                picture = np.ascontiguousarray(inferencer.paint(frame.image, frame.sample, score=score))
                if frame.refinements is not None:
                    cv2.putText(picture, f'{frame.refinements}', (4, picture.shape[0] - 6),
                                cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
                writer.write(picture)
                yield frame
        finally:
            writer.close()


def pack(equilibrium: Optional[Equilibrium]) -> Optional[Dict[str, Any]]:
    """An equilibrium for JSON, to the bit."""
    if equilibrium is None:
        return None
    parts = {name: dict(shape=list(part.shape), float32=base64.b64encode(
        part.detach().float().cpu().numpy().tobytes()).decode())
        for name, part in (('position', equilibrium.position), ('content', equilibrium.content))}
    return dict(**parts, shape=list(equilibrium.shape), flips=list(equilibrium.flips),
                refinements=equilibrium.refinements)


def unpack(packed: Optional[Dict[str, Any]], device: torch.device) -> Optional[Equilibrium]:
    """What :func:`pack` packed."""
    if packed is None:
        return None
    parts = {}
    for name in ('position', 'content'):
        numbers = np.frombuffer(base64.b64decode(packed[name]['float32']), dtype=np.float32)
        parts[name] = torch.from_numpy(numbers.reshape(packed[name]['shape']).copy()).to(device)
    return Equilibrium(**parts, shape=tuple(packed['shape']), flips=tuple(packed['flips']),
                       refinements=packed['refinements'])


@contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """As ``written_aside``, but OpenCV tells the kind of a video from its ending."""
    aside = out.with_name(f'{out.stem}.unfinished.mp4')
    try:
        yield aside
    except BaseException:
        with suppress(OSError):
            os.remove(aside)
        raise
    if aside.exists():
        os.replace(aside, out)
