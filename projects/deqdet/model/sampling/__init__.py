"""Adaptive 3-D sampling: points in (x, y, scale), values interpolated from all feature levels.

AdaMixer, section 3.2. A :class:`FeaturePyramid` is made once per batch, and each application of a decoder
layer samples it. Each back end is a subclass in its own file, with a name in ``BACK_ENDS``.
"""

from typing import Dict, Sequence, Type

from torch import Tensor

from ...dtypes import widened
from ...errors import UsageError
from .grid import GridPyramid
from .points import level_weights, place_points
from .pyramid import FeaturePyramid
from .rows import RowPyramid
from .triton_rows import TritonPyramid

BACK_ENDS: Dict[str, Type[FeaturePyramid]] = dict(grid=GridPyramid, rows=RowPyramid, triton=TritonPyramid)

# From this number of values in all levels of one image on, gathering rows is faster than `grid_sample` on a
# CPU: between 192 x 192 pixels (0.8 M) and 320 x 320 (2.2 M) with 256 channels. It is per image, so that the
# batch size has no effect.
_ROWS_FROM = 1_000_000

__all__ = [
    'BACK_ENDS', 'FeaturePyramid', 'GridPyramid', 'RowPyramid', 'TritonPyramid', 'check_back_end',
    'level_weights', 'make_pyramid', 'place_points'
]


def check_back_end(name: str) -> None:
    """Check that the name of a back end is known.

    Raises:
        UsageError: If it is not known, with the known names.
    """
    if name != 'auto' and name not in BACK_ENDS:
        raise UsageError(f'sampling={name!r} must be one of auto, {", ".join(BACK_ENDS)}', 'bad-setting')


def make_pyramid(features: Sequence[Tensor], strides: Sequence[int], back_end: str = 'auto', *,
                 compiled: bool = False) -> FeaturePyramid:
    """Prepare feature levels for sampling.

    Args:
        features (Sequence[Tensor]): L maps, has shape (B, C, H_l, W_l).
        strides (Sequence[int]): Pixels of the input per feature cell, L of them.
        back_end (str): A key of ``BACK_ENDS``, or ``'auto'``: rows for large features on a CPU, else
            grid, which equals the released form to the bit. ``'auto'`` never chooses triton.
        compiled (bool): The sampling is part of a compiled program; then rows are faster on a CPU at any
            size.

    Raises:
        UsageError: If the back end does not run on the device of the features.
    """
    if back_end == 'auto':
        large = sum(feature[0].numel() for feature in features) >= _ROWS_FROM
        back_end = 'rows' if (large or compiled) and features[0].device.type == 'cpu' else 'grid'
    # Half precision is too coarse for the sum over 4 levels x 4 corners.
    return BACK_ENDS[back_end]([widened(feature) for feature in features], strides)
