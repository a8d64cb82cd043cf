"""Read images. Broken files are reported with a reason; all other errors are raised."""

import os
import os.path as osp
import sys
import warnings
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Union

import cv2
import numpy as np
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine import fileio

from ..compat.image_values import may_be_deep, scaled, values_in_use
from ..data.doctor.scan import ends_well, read_image_file
from ..errors import UsageError, shown_name
from ..images.pillow import deep_values, read_picture
from .formats import is_address, unsupported

# Number of bytes at each end that show whether a file is complete.
_ENDS = 64


class BrokenFileError(UsageError):
    """An image file that cannot be read, with the ``reason``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'image {path} cannot be read ({reason})', 'bad-image')
        self.reason = reason


class Frame(NamedTuple):
    """One image, or one frame of a video, with its detections.

    Attributes:
        input (str or np.ndarray): Its file (for a frame of a video file: the video), or the array.
        image (np.ndarray, optional): As displayed: BGR, uint8, has shape (H, W, 3). None if it is broken.
        reason (str): Why it is broken.
        number (int, optional): Its position in a video, from 0.
        data (dict, optional): The output of the test pipeline so far; not kept with the detections.
        sample (:obj:`DetDataSample`, optional): ``pred_instances``, boxes (x1, y1, x2, y2) in pixels of the
            displayed image, and ``masks``, a list of COCO's RLE, if the model finds masks; for a frame also
            ``equilibrium``, if the decoder has one.
        refinements (int, optional): Number of refinements of a frame.
    """

    input: Union[str, np.ndarray]
    image: Any
    reason: str = ''
    number: Optional[int] = None
    data: Optional[dict] = None
    sample: Optional[DetDataSample] = None
    refinements: Optional[int] = None


class ImageReader:
    """Reads images as the first step of a pipeline does. Broken files raise a BrokenFileError.

    Args:
        loader (Callable, optional): mmdet's ``InferencerLoader``. By default OpenCV decodes colour images.
    """

    def __init__(self, loader: Any = None) -> None:
        self._loader = loader or TRANSFORMS.build(dict(type='mmdet.InferencerLoader'))
        file = self._loader.from_file
        self._loading = dict(color_type=file.color_type, imdecode_backend=file.imdecode_backend,
                             backend_args=getattr(file, 'backend_args', None),
                             value_range=getattr(file, 'value_range', None))

    def frames(self, inputs: Iterable[Union[str, np.ndarray]]) -> Iterator[Frame]:
        """Images one by one; broken ones have a reason."""
        for each in inputs:
            try:
                loaded = self.load(each)
            except BrokenFileError as error:
                yield Frame(each, None, error.reason)
            else:
                yield Frame(each, as_bgr(loaded['img'].astype(np.uint8)), data=loaded)

    def load(self, image: Union[str, np.ndarray]) -> Dict[str, Any]:
        """Load an image for the next step of the pipeline.

        A truncated file is broken, though OpenCV may fill the rest with grey. If OpenCV cannot decode a file,
        Pillow tries.

        Args:
            image (str or np.ndarray): File, URL, or array, see :func:`as_bgr`.

        Raises:
            BrokenFileError: If the file cannot be read.
        """
        if isinstance(image, np.ndarray):
            return self._loader(as_bgr(image))
        path, remote = image, is_address(image)
        reason = '' if remote else unsupported(path) or _no_file(path)
        if reason:
            raise BrokenFileError(path, reason)
        failure = None
        try:
            loaded = self._loader(dict(img_path=path))
            if loaded is not None and (remote or _is_whole(path)):
                self._warn_of_lost_values(path)
                return loaded
        except Exception as error:  # from a file backend or OpenCV
            failure = error
        found = read_image_file(path, self._loading)
        if failure is not None and not found.fault:
            raise failure
        picture = self._by_pillow(path) if found.size is None else None
        if picture is None:
            raise BrokenFileError(path, ' '.join(found.fault.split()) or 'cannot be decoded') from failure
        self._warn_of_lost_values(path)
        return dict(self._loader(dict(img=picture)), img_path=path)

    def _by_pillow(self, path: str) -> Optional[np.ndarray]:
        """Decode a file that OpenCV cannot; None if Pillow cannot either."""
        value_range = self._loading['value_range']
        try:
            data = fileio.get(path, backend_args=self._loading['backend_args'])
            values = None if value_range is None else deep_values(data)
            return read_picture(data, self._loading['color_type']) if values is None else scaled(
                values, value_range)
        except Exception:  # the doctor's reader reports the reason
            return None

    def _warn_of_lost_values(self, path) -> None:
        if self._loading['value_range'] is not None or is_address(path):
            return
        with open(path, 'rb') as file:
            data = file.read(_ENDS)
            if may_be_deep(data):
                data += file.read()
        values = values_in_use(data, by_pillow=True)
        if values is not None and values.are_lost:
            # Names the folder: Python shows equal warnings once.
            warnings.warn(f'images in {osp.dirname(path)} have {values.words}; only 8 bits are kept, with '
                          f'little contrast: {values.setting} in the test pipeline of the config',
                          stacklevel=2)


def _no_file(path) -> str:
    """Why a path cannot be opened as a file; empty if it can."""
    if osp.islink(path) and not osp.exists(path):
        return f'broken link to {os.readlink(path)}'
    if osp.isdir(path):
        try:
            os.listdir(path)
        except OSError as error:
            return f'the folder cannot be read, {error.strerror}'
    # Opening a named pipe would block forever.
    return 'not a regular file' if osp.exists(path) and not osp.isfile(path) else ''


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Inside, a warning takes one line on stderr, not Python's usual two."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(
            f'warning: {shown_name(str(message))}', file=sys.stderr, flush=True)
        yield


def as_bgr(image: np.ndarray) -> np.ndarray:
    """An array in the form that mmdet expects: grey becomes BGR, alpha is dropped.

    Args:
        image (np.ndarray): uint8, has shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), BGR and BGRA.

    Returns:
        np.ndarray: uint8, has shape (H, W, 3).

    Raises:
        UsageError: If it has another shape or type.
    """
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in (1, 3, 4) or not image.size:
        raise UsageError(f'an image has type {image.dtype} and shape {image.shape}: it must be uint8 from 0 '
                         'to 255, BGR as in OpenCV of shape (H, W, 3), or grey (H, W)', 'bad-argument')
    if channels == 3:
        return image
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)


def _is_whole(path) -> bool:
    """Whether a file ends as its format requires. If not, Pillow decides."""
    with open(path, 'rb') as file:
        start = file.read(_ENDS)
        file.seek(max(0, file.seek(0, 2) - _ENDS))
        end = file.read()
    # Some programs write more data after the end.
    return ends_well(start + end) or not read_image_file(path, dict(
        color_type='color', imdecode_backend='cv2', backend_args=None)).fault
