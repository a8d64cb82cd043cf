"""Images with more than 8 bits per value: the values in use, and their conversion to 8 bits.

OpenCV keeps the upper 8 of 16 bits. Of 10-bit values in a 16-bit file only 0 to 3 remain: the image can be
read without an error, but is black to a network.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmdet.datasets.transforms import LoadImageFromNDArray as _LoadImageFromNDArray
from mmdet.registry import TRANSFORMS

from ..errors import UsageError
from ..images.pillow import deep_values

# With 15 bits in use an image has half of its brightness, which networks tolerate. Of a range of 14 bits, 64
# levels of grey remain.
_MOST_UNUSED = 14
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_JPEG_2000 = (b'\0\0\0\x0cjP', b'\xffO\xffQ')
_HDR = b'#?'
# PFM, PAM, and IM, which only Pillow reads.
_OTHERS = (b'PF', b'Pf', b'P7', b'Image type: ')
# The last group is the highest value of a PGM or PPM file.
_PNM = re.compile(rb'P[2356](?:\s+(?:#[^\n]*\s+)*(\d+)){3}\s')
_PNG = b'\x89PNG'
# Offset of the bit depth in a PNG file.
_PNG_DEPTH = 24


@dataclass(frozen=True)
class Values:
    """Values of one or several images with more than 8 bits.

    Attributes:
        kind (str): Their type: ``uint16``, ``int16``, ``float32``, ...
        low (float): The lowest.
        high (float): The highest.
    """

    kind: str
    low: float
    high: float

    def __or__(self, other: 'Values') -> 'Values':
        """Values of both, which have the same type."""
        return Values(self.kind, min(self.low, other.low), max(self.high, other.high))

    @property
    def bits(self) -> int:
        """Number of bits for whole numbers up to the highest value."""
        return int(max(self.high, 0)).bit_length()

    @property
    def _are_low(self) -> bool:
        """Whether only the lowest bits of 16 are in use."""
        return self.kind in ('uint16', 'int16') and self.low >= 0 and self.bits <= _MOST_UNUSED

    @property
    def are_lost(self) -> bool:
        """Whether 8 bits keep little of the values, or nothing meaningful."""
        if self.kind not in ('uint16', 'int16'):
            return True  # OpenCV refuses them
        return self.low < 0 or 0 < self.bits <= _MOST_UNUSED or 0 < self.high - self.low < 2**_MOST_UNUSED

    @property
    def words(self) -> str:
        """The values in use, for messages."""
        if self._are_low:
            return f'values that use the lowest {self.bits} of 16 bits'
        return f'{self.kind} values from {self.low:.6g} to {self.high:.6g}'

    @property
    def setting(self) -> str:
        """The setting that scales them, for messages."""
        if self._are_low:
            low, high = 0.0, 2.0**self.bits - 1
        elif 0 <= self.low and self.high <= 1:
            low, high = 0.0, 1.0
        else:
            low, high = self.low, self.high
        return f'set value_range=({low:.6g}, {high:.6g}) of LoadImageFromFile'


def values_in_use(data: bytes, picture: Optional[np.ndarray] = None, *, by_pillow: bool = False
                  ) -> Optional[Values]:
    """Values of an image file with more than 8 bits; None for other files.

    Args:
        data (bytes): The file.
        picture (np.ndarray, optional): The decoded image, 8 bits per value, if known.
        by_pillow (bool): Pillow reads the files that OpenCV cannot.
    """
    if not may_be_deep(data):
        return None
    if picture is not None and data.startswith(_PNG) and np.ptp(picture) > 2**(_MOST_UNUSED - 8):
        return Values('uint16', 256.0 * float(picture.min()), 256.0 * float(picture.max()))  # enough remains
    values = None
    with suppress(cv2.error):
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None and by_pillow:
        values = deep_values(data)
    if values is None or values.dtype == np.uint8 or not values.size:
        return None
    if data.startswith(_HDR) and values.max() <= 1:
        return None  # OpenCV scales this range to 8 bits
    if values.ndim == 3 and values.shape[2] == 4:
        values = values[..., :3]  # opacity uses all bits
    finite = values[np.isfinite(values)]
    return Values(str(values.dtype), float(finite.min()), float(finite.max())) if finite.size else None


def scaled(values: np.ndarray, value_range: Sequence[float]) -> np.ndarray:
    """Convert values to 8 bits.

    Args:
        values (np.ndarray): Of any type, has shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), BGR.
        value_range (Sequence[float]): The values that become 0 and 255; values outside are clipped.

    Returns:
        np.ndarray: BGR, uint8, has shape (H, W, 3).
    """
    low, high = value_range
    shares = (np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / (high - low)
    image = np.rint(255 * shares.clip(0, 1)).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3])


def decoded(data: bytes, loading: dict) -> Optional[np.ndarray]:
    """An image file as a pipeline decodes it.

    Args:
        data (bytes): The file.
        loading (dict): ``color_type``, ``imdecode_backend`` and perhaps ``value_range`` of its loader.
    """
    value_range = loading.get('value_range')
    if value_range is not None:
        values = mmcv.imfrombytes(data, flag='unchanged', backend=loading['imdecode_backend'])
        if values is not None and values.dtype != np.uint8:
            return scaled(values, value_range)
    return mmcv.imfrombytes(data, flag=loading['color_type'], backend=loading['imdecode_backend'])


# Pipelines of configs use this name; without the setting the class works as mmcv's.
@TRANSFORMS.register_module(name='LoadImageFromFile', force=True)
class LoadImageFromFile(_LoadImageFromFile):
    """mmcv's ``LoadImageFromFile``, which can also scale images with more than 8 bits.

    Args:
        value_range (tuple[float], optional): For images with more than 8 bits (16-bit TIFF, PNG or PGM,
            floats), the values that become 0 and 255: ``(0, 1023)`` for 10 bits. Images with 8 bits do not
            change. By default the upper 8 of 16 bits are kept.
        **kwargs: Arguments of mmcv's class.

    Raises:
        UsageError: If ``value_range`` is no range.
    """

    def __init__(self, *args: Any, value_range: Optional[Sequence[float]] = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.value_range: Optional[Tuple[float, float]] = None
        if value_range is None:
            return
        self.value_range = _checked(value_range)
        self._unchanged = _LoadImageFromFile(*args, **kwargs)
        self._unchanged.color_type, self._unchanged.to_float32 = 'unchanged', False

    def transform(self, results: dict) -> Optional[dict]:
        """As in mmcv, with ``value_range``."""
        found = None if self.value_range is None else self._unchanged.transform(dict(results))
        if found is None or self.value_range is None or found['img'].dtype == np.uint8:
            return super().transform(results)
        image = scaled(found['img'], self.value_range)
        if self.color_type.startswith('gray'):
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        found['img'] = image.astype(np.float32) if self.to_float32 else image
        return {**results, **found}

    def __repr__(self) -> str:
        shown = super().__repr__()
        return shown if self.value_range is None else f'{shown[:-1]}, value_range={self.value_range})'


@TRANSFORMS.register_module(name='LoadImageFromNDArray', force=True)
class LoadImageFromNDArray(_LoadImageFromNDArray):
    """mmdet's class, which replaces ``LoadImageFromFile`` with the same settings; arrays have 8 bits."""

    def __init__(self, *args: Any, value_range: Optional[Sequence[float]] = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


def _checked(value_range) -> Tuple[float, float]:
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and low < high):
        raise UsageError(f'value_range={value_range!r} of LoadImageFromFile must be two numbers: the '
                         'value of black and a higher value of white', 'bad-setting')
    return low, high


def may_be_deep(data: bytes) -> bool:
    """Whether a file may have more than 8 bits per value, by its first 32 bytes or more."""
    if data.startswith(_PNG):
        return len(data) > _PNG_DEPTH and data[_PNG_DEPTH] == 16
    if data[:2] in (b'P2', b'P3', b'P5', b'P6'):
        header = _PNM.match(data)
        return header is None or int(header[1]) > 255
    return data.startswith((*_TIFF, *_JPEG_2000, _HDR, *_OTHERS))
