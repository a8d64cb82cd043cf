"""Image files that cannot be read are told from everything else that may go wrong."""

import os.path as osp
import sys
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import cv2
import numpy as np

from ..compat.image_values import may_be_deep, values_in_use
from ..doctor.scan import ends_well, read_image_file
from ..errors import UsageError, shown_name
from .inputs import is_address

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
        read (Callable): Gets ``dict(img_path=path)``.
        path (str): File or URL.
        loading (dict): How the pipeline decodes, see ``Source.loading`` of the data doctor.

    Returns:
        object: What ``read`` returns.

    Raises:
        BrokenFileError: If it cannot be read.
    """
    if not is_address(path) and osp.exists(path) and not osp.isfile(path):
        # Opening a named pipe waits for ever.
        raise BrokenFileError(path, 'no regular file')
    try:
        data = read(dict(img_path=path))
        whole = data is not None and (is_address(path) or _is_whole(path))
    except Exception as error:  # of a file backend, of OpenCV, of a transform
        fault = read_image_file(path, loading).fault
        if fault:
            raise BrokenFileError(path, ' '.join(fault.split())) from error
        raise
    if not whole:
        raise BrokenFileError(path, read_image_file(path, loading).fault or 'cannot be decoded')
    if loading.get('value_range') is None and not is_address(path):
        _warn_of_lost_values(path)
    return data


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
