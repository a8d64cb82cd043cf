"""Reading images: which files are broken, and why; all else that may go wrong stays an error."""

import os
import os.path as osp
import sys
import warnings
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Union

import cv2
import numpy as np
from mmdet.registry import TRANSFORMS
from mmengine import fileio

from ..compat.image_values import may_be_deep, values_in_use
from ..data.doctor.scan import ends_well, read_image_file
from ..errors import UsageError, shown_name
from ..images.pillow import read_picture
from .formats import is_address, unsupported

# Bytes at both ends that tell whether a file is whole.
_ENDS = 64


class BrokenFileError(UsageError):
    """An image file that cannot be read.

    Attributes:
        reason (str): Why.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'image {path} cannot be read ({reason})')
        self.reason = reason


class Frame(NamedTuple):
    """One picture of the inputs: an image, or one of the frames of a video.

    Attributes:
        input (str or np.ndarray): Its file; of a frame of a video file that of the video; or the array.
        image (np.ndarray, optional): As it is shown: BGR, uint8, has shape (H, W, 3). None if it is broken.
        reason (str): Why it is broken.
        number (int, optional): Its place in a video, from 0.
        loaded (dict, optional): What the loader of a pipeline made of the file.
    """

    input: Union[str, np.ndarray]
    image: Optional[np.ndarray]
    reason: str = ''
    number: Optional[int] = None
    loaded: Optional[dict] = None


class ImageReader:
    """Reads images as the first step of a pipeline does; broken files are told from other errors.

    Args:
        loader (Callable, optional): mmdet's ``InferencerLoader``. By default it decodes colours with OpenCV.
    """

    def __init__(self, loader: Any = None) -> None:
        self._loader = loader or TRANSFORMS.build(dict(type='mmdet.InferencerLoader'))
        file = self._loader.from_file
        self._loading = dict(color_type=file.color_type, imdecode_backend=file.imdecode_backend,
                             backend_args=getattr(file, 'backend_args', None),
                             value_range=getattr(file, 'value_range', None))

    def frames(self, inputs: Iterable[Union[str, np.ndarray]]) -> Iterator[Frame]:
        """Images one by one, broken ones among them."""
        for each in inputs:
            try:
                loaded = self.load(each)
            except BrokenFileError as error:
                yield Frame(each, None, error.reason)
            else:
                yield Frame(each, as_bgr(loaded['img'].astype(np.uint8)), loaded=loaded)

    def load(self, image: Union[str, np.ndarray]) -> Dict[str, Any]:
        """What the next step of the pipeline gets.

        A truncated file is broken, though OpenCV may fill it up with grey. What OpenCV cannot decode is
        decoded by Pillow, if that can.

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
                if self._loading['value_range'] is None and not remote:
                    _warn_of_lost_values(path)
                return loaded
        except Exception as error:  # of a file backend, or of OpenCV
            failure = error
        found = read_image_file(path, self._loading)
        if failure is not None and not found.fault:
            raise failure
        picture = self._by_pillow(path) if found.size is None else None
        if picture is None:
            raise BrokenFileError(path, ' '.join(found.fault.split()) or 'cannot be decoded') from failure
        return dict(self._loader(dict(img=picture)), img_path=path)

    def _by_pillow(self, path: str) -> Optional[np.ndarray]:
        """The picture in a file that OpenCV cannot decode; None if Pillow cannot either."""
        try:
            return read_picture(fileio.get(path, backend_args=self._loading['backend_args']),
                                self._loading['color_type'])
        except Exception:  # its reason is in what the doctor's reading gives
            return None


def _no_file(path) -> str:
    """Why there is no file to open."""
    if osp.islink(path) and not osp.exists(path):
        return f'broken link to {os.readlink(path)}'
    if osp.isdir(path):
        try:
            os.listdir(path)
        except OSError as error:
            return f'folder cannot be read, {error.strerror}'
    # Opening a named pipe waits for ever.
    return 'no regular file' if osp.exists(path) and not osp.isfile(path) else ''


class LostValuesWarning(UserWarning):
    """Images have more than 8 bits a value, and the 8 that are kept say little."""


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Inside, a :class:`LostValuesWarning` is one line on stderr; Python's own have two."""
    with warnings.catch_warnings():
        warnings.simplefilter('default', LostValuesWarning)
        show = warnings.showwarning

        def shown(message, category, *rest, **named):
            if issubclass(category, LostValuesWarning):
                print(f'warning: {shown_name(str(message))}', file=sys.stderr, flush=True)
            else:
                show(message, category, *rest, **named)

        warnings.showwarning = shown
        yield


def _warn_of_lost_values(path) -> None:
    with open(path, 'rb') as file:
        data = file.read(_ENDS)
        if may_be_deep(data):
            data += file.read()
    values = values_in_use(data) if may_be_deep(data) else None
    if values is not None and values.are_lost:
        # Of the folder: Python shows equal warnings once.
        warnings.warn(f'images in {osp.dirname(path)} have {values.words}, of which 8 bits are kept that say '
                      f'little: {values.setting} in the test pipeline of the config', LostValuesWarning,
                      stacklevel=2)


def as_bgr(image: np.ndarray) -> np.ndarray:
    """An array as mmdet takes it; grey becomes BGR, alpha is left out.

    Args:
        image (np.ndarray): uint8, has shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), BGR and BGRA.

    Returns:
        np.ndarray: uint8, has shape (H, W, 3).

    Raises:
        UsageError: If it is none of these.
    """
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in (1, 3, 4) or not image.size:
        raise UsageError(f'an image of type {image.dtype} and shape {image.shape}: it must be BGR as OpenCV '
                         'has it, uint8 from 0 to 255, of shape (H, W, 3), or grey (H, W)')
    if channels == 3:
        return image
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)


def _is_whole(path) -> bool:
    """Whether a file ends as its kind does; of one with a faulty end Pillow has the last word."""
    with open(path, 'rb') as file:
        start = file.read(_ENDS)
        file.seek(max(0, file.seek(0, 2) - _ENDS))
        end = file.read()
    # Some programs write more behind the end.
    return ends_well(start + end) or not read_image_file(path, dict(
        color_type='color', imdecode_backend='cv2', backend_args=None)).fault
