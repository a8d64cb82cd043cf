"""Draw detections on images with mmdet's visualiser; write images and videos."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence

import cv2
import mmcv
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from ..errors import UsageError, shown_name
from ..images.drawing import tint
from .masks import decode_mask

# Pictures in these formats keep their names; others get a second extension.
_WRITTEN = ('.jpg', '.jpeg', '.png')
_OR_ELSE = 'free some space, use another --out, or add --no-pictures'


def drawable(sample: DetDataSample, shape: Sequence[int]) -> DetDataSample:
    """Clip boxes to the image and drop invalid ones, which random weights may give. Masks stay whole."""
    found = sample.pred_instances.cpu()
    low, high = found.bboxes[:, :2], found.bboxes[:, 2:]
    found = found[(found.bboxes.isfinite().all(1) & (high >= low).all(1))]
    size = found.bboxes.new_tensor([shape[1], shape[0]] * 2)
    drawn = InstanceData(labels=found.labels, scores=found.scores,
                         bboxes=found.bboxes.clamp(min=0).minimum(size))
    if 'masks' in found:
        drawn.masks = found.masks
    return DetDataSample(metainfo=sample.metainfo, pred_instances=drawn)


def with_masks(picture: np.ndarray, found: InstanceData, palette: Sequence[Sequence[int]], *, score: float
               ) -> np.ndarray:
    """Colour the masks of detections; better detections lie on top.

    mmdet's visualiser would draw them over the labels of the boxes, in random colours, from booleans of all.

    Args:
        picture (np.ndarray): RGB, uint8, has shape (H, W, 3).
        found (:obj:`InstanceData`): Detections with the best first; ``masks`` as in :func:`decode_mask`.
        palette (Sequence[Sequence[int]]): Colour of each class, RGB.
        score (float): Only masks above this score.

    Returns:
        np.ndarray: A new picture.
    """
    picture = picture.copy()
    shown = (found.scores > score).nonzero().flatten().tolist()
    for number in reversed(shown):
        tint(picture, decode_mask(found.masks[number]), palette[int(found.labels[number])])
    return picture


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
        if mmcv.imwrite(picture, str(path)):
            return
        reason = ''
    except (OSError, cv2.error) as error:
        reason = f' ({error})'
    raise UsageError(f'{path} cannot be written{reason}: {_OR_ELSE}', 'output-failed')


@contextmanager
def video_file(path: Path, rate: float) -> Iterator[Callable[[np.ndarray, Optional[int]], None]]:
    """Write frames of one size to an MP4 file, which gets its name when it is complete.

    Args:
        path (Path): The file; its folder is created if missing.
        rate (float): Frames per second.

    Yields:
        Callable: Appends a frame (BGR, uint8, has shape (H, W, 3)), with its number of refinements in the
        corner. It raises a UsageError if OpenCV cannot write there.
    """
    aside = path.with_name(f'{path.stem}.unfinished.mp4')  # OpenCV chooses the format by the extension
    writer = cv2.VideoWriter()

    def write(frame: np.ndarray, refinements: Optional[int]) -> None:
        height, width = frame.shape[:2]
        if not writer.isOpened():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not writer.open(str(aside), cv2.VideoWriter.fourcc(*'mp4v'), rate, (width, height)):
                raise UsageError(f'{path} cannot be written as a video: {_OR_ELSE}', 'output-failed')
        frame = np.ascontiguousarray(frame)
        if refinements is not None:
            cv2.putText(frame, f'{refinements}', (4, height - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                        (255, 255, 255), 1, cv2.LINE_AA)
        writer.write(frame)

    try:
        yield write
        if writer.isOpened():
            writer.release()
            os.replace(aside, path)
    finally:
        writer.release()
        with suppress(OSError):
            aside.unlink()
