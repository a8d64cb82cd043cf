"""Image files that cannot be read are told from everything else that may go wrong."""

import os
import os.path as osp
import sys
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional

import cv2
import numpy as np
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


def read_with(read: Callable[[Any], Any], path: str, loading: dict) -> Any:
    """Read an image file; what is truncated is broken, though OpenCV may fill it up with grey.

    Args:
        read (Callable): Gets ``dict(img_path=path)``; where OpenCV cannot decode the file and Pillow can,
            ``dict(img=picture)``, as mmdet's loaders take it.
        path (str): File or URL.
        loading (dict): How the pipeline decodes, see ``Source.loading`` of the data doctor.

    Returns:
        object: What ``read`` returns.

    Raises:
        BrokenFileError: If it cannot be read.
    """
    reason = '' if is_address(path) else unsupported(path) or _no_file(path)
    if reason:
        raise BrokenFileError(path, reason)
    failure = None
    try:
        data = read(dict(img_path=path))
        if data is not None and (is_address(path) or _is_whole(path)):
            if loading.get('value_range') is None and not is_address(path):
                _warn_of_lost_values(path)
            return data
    except Exception as error:  # of a file backend, of OpenCV, of a transform
        failure = error
    found = read_image_file(path, loading)
    if failure is not None and not found.fault:
        raise failure
    picture = _by_pillow(path, loading) if found.size is None else None
    if picture is None:
        raise BrokenFileError(path, ' '.join(found.fault.split()) or 'cannot be decoded') from failure
    data = read(dict(img=picture))
    if isinstance(data, dict) and 'data_samples' in data:
        data['data_samples'].set_metainfo(dict(img_path=path))
    return data


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


def _by_pillow(path, loading) -> Optional[np.ndarray]:
    """The picture in a file that OpenCV cannot decode; None if Pillow cannot either."""
    try:
        return read_picture(fileio.get(path, backend_args=loading['backend_args']), loading['color_type'])
    except Exception:  # its reason is in what the doctor's reading gives
        return None


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
