"""Reads images with Pillow, but without its limit of pixels: a large photograph is no attack.

``PIL.Image.MAX_IMAGE_PIXELS`` belongs to the program that imports this package, so it does not change. The
limit here is that of OpenCV, which reads the images of training.
"""

import importlib
import io
import os
import struct
import warnings
from contextlib import suppress
from typing import Optional

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UsageError

# Formats that need another package or newer versions, by the brand after `ftyp`.
_HEIF = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')
_AVIF = (b'avif', b'avis')
_HOW_TO_READ_MORE = 'make it smaller, or set OPENCV_IO_MAX_IMAGE_PIXELS to more before the command'


def open_picture(data: bytes) -> Image.Image:
    """Open an image as ``PIL.Image.open`` does; ``load()`` reads its pixels.

    Args:
        data (bytes): Content of a file.

    Raises:
        UnidentifiedImageError: If it is no image.
        UsageError: If it has more pixels than OpenCV reads.
    """
    Image.preinit()  # the common formats come first
    Image.init()
    with suppress(ImportError):
        importlib.import_module('pillow_heif').register_heif_opener()
    for kind in Image.ID:
        factory, accept = Image.OPEN[kind]
        try:
            accepted = accept is None or accept(data[:16])
            if not accepted or isinstance(accepted, str):  # a text is the reason for a refusal
                continue
            picture = factory(io.BytesIO(data), '')
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # as in `PIL.Image.open`: another format may fit
        width, height = picture.size
        if width * height > _most_pixels():
            raise UsageError(f'{width} x {height} pixels are more than OpenCV reads: {_HOW_TO_READ_MORE}',
                             'bad-image')
        return picture
    brand = data[8:12] if data[4:8] == b'ftyp' else b''
    if brand in _HEIF:
        raise UnidentifiedImageError('HEIF (.heic) needs the package pillow-heif: pip install pillow-heif')
    if brand in _AVIF:
        raise UnidentifiedImageError('AVIF needs OpenCV 4.11 or newer, or Pillow 11.3 or newer')
    raise UnidentifiedImageError('no image')


def picture_fault(data: bytes) -> str:
    """The error of Pillow, which is stricter than OpenCV, for an image file; empty if there is none."""
    if not data:
        return 'empty file'
    try:
        with warnings.catch_warnings(), open_picture(data) as picture:
            warnings.simplefilter('ignore')
            picture.load()
    except Exception as error:
        return getattr(error, 'message', str(error)) or type(error).__name__
    return ''


def read_picture(data: bytes, color_type: str = 'color') -> np.ndarray:
    """Decode an image with Pillow, as mmcv decodes others with OpenCV.

    Args:
        data (bytes): Content of a file.
        color_type (str): ``color`` is turned by its EXIF data, as in mmcv; ``grayscale`` has one channel.

    Returns:
        np.ndarray: BGR, uint8, has shape (H, W, 3), or (H, W) if it is grey.
    """
    with open_picture(data) as picture:
        if color_type in ('color', 'grayscale'):
            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith('I;16'):  # Pillow would clip the values
            picture = Image.fromarray((np.array(picture) >> 8).astype(np.uint8))
        if color_type.startswith('grayscale'):
            return np.array(picture.convert('L'))
        return np.ascontiguousarray(np.array(picture.convert('RGB'))[..., ::-1])


def read_with_alpha(data: bytes) -> np.ndarray:
    """Decode an image with its transparency, turned by its EXIF data; of an animation, the first frame.

    Args:
        data (bytes): Content of a file.

    Returns:
        np.ndarray: BGR and alpha (255: opaque), uint8, has shape (H, W, 4).
    """
    with warnings.catch_warnings(), open_picture(data) as picture:
        warnings.simplefilter('ignore')
        values = np.array(ImageOps.exif_transpose(picture).convert('RGBA'))
    return np.ascontiguousarray(values[..., [2, 1, 0, 3]])


def deep_values(data: bytes) -> Optional[np.ndarray]:
    """Values of an image with more than 8 bits, which Pillow reads; None for other files.

    Args:
        data (bytes): Content of a file.

    Returns:
        np.ndarray, optional: uint16, int32 or float32, has shape (H, W).
    """
    try:
        with open_picture(data) as picture:
            values = np.array(picture) if picture.mode[0] in 'IF' else None
    except Exception:  # `picture_fault` gives the reason
        return None
    return None if values is None else values.astype(values.dtype.newbyteorder('='))


def size_fault(error: BaseException) -> str:
    """The message for an OpenCV error, if the size of the image caused it; else empty."""
    if 'CV_IO_MAX_IMAGE_' not in str(error):
        return ''
    return f'it has more pixels than OpenCV reads: {_HOW_TO_READ_MORE}'


def _most_pixels() -> int:
    try:
        return int(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'])
    except (KeyError, ValueError):
        return 2 ** 30
