"""Draw boxes on images with mmdet's visualiser; write images and videos."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional, Sequence

import cv2
import mmcv
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from ..errors import UsageError, shown_name

# Pictures in these formats keep their names; others get a second extension.
_WRITTEN = ('.jpg', '.jpeg', '.png')
_OR_ELSE = 'free some space, use another --out, or add --no-pictures'


def drawable(sample: DetDataSample, shape: Sequence[int]) -> DetDataSample:
    """Clip boxes to the image and drop invalid ones, which random weights may give."""
    found = sample.pred_instances.cpu()
    low, high = found.bboxes[:, :2], found.bboxes[:, 2:]
    found = found[(found.bboxes.isfinite().all(1) & (high >= low).all(1))]
    size = found.bboxes.new_tensor([shape[1], shape[0]] * 2)
    drawn = InstanceData(labels=found.labels, scores=found.scores,
                         bboxes=found.bboxes.clamp(min=0).minimum(size))
    return DetDataSample(metainfo=sample.metainfo, pred_instances=drawn)


def picture_name(name: str) -> str:
    """Name of the picture with boxes; its extension is one that OpenCV can write everywhere."""
    return name if name.lower().endswith(_WRITTEN) else f'{name}.png'


def video_name(name: str) -> str:
    """Name of the video with boxes, in characters that OpenCV accepts."""
    name = shown_name(name)
    return name if name.lower().endswith('.mp4') else f'{name}.mp4'


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture (BGR, uint8, has shape (H, W, 3)); raises a UsageError if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reason = '' if mmcv.imwrite(picture, str(path)) else ' '
    except (OSError, cv2.error) as error:
        reason = f' ({error})'
    if reason:
        raise UsageError(f'{path} cannot be written{reason.rstrip()}: {_OR_ELSE}', 'output-failed')


class VideoFile:
    """Frames of one size in an MP4 file; a context manager. The file gets its name when it is complete.

    Args:
        path (Path): The file; its folder is created if missing.
        rate (float): Frames per second.

    Raises:
        UsageError: If OpenCV cannot write there.
    """

    def __init__(self, path: Path, rate: float) -> None:
        # OpenCV chooses the format by the extension.
        self._path, self._aside = path, path.with_name(f'{path.stem}.unfinished.mp4')
        self._rate = rate
        self._writer: Optional[cv2.VideoWriter] = None

    def write(self, frame: np.ndarray, refinements: Optional[int] = None) -> None:
        """Append a frame (BGR, uint8, has shape (H, W, 3)) with its number of refinements in the corner."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            height, width = frame.shape[:2]
            self._writer = cv2.VideoWriter(
                str(self._aside), cv2.VideoWriter.fourcc(*'mp4v'), self._rate, (width, height))
            if not self._writer.isOpened():
                raise UsageError(f'{self._path} cannot be written as a video: {_OR_ELSE}', 'output-failed')
        frame = np.ascontiguousarray(frame)
        if refinements is not None:
            cv2.putText(frame, f'{refinements}', (4, frame.shape[0] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                        (255, 255, 255), 1, cv2.LINE_AA)
        self._writer.write(frame)

    def __enter__(self) -> 'VideoFile':
        return self

    def __exit__(self, failure: Any, *_: Any) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if failure is None:
            os.replace(self._aside, self._path)
        else:
            with suppress(OSError):
                os.remove(self._aside)
