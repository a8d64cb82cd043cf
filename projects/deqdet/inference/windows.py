"""Detection in large pictures by overlapping windows."""

from dataclasses import dataclass
from typing import Annotated, Any, Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pydantic import Field

from ..data.tile_sets import spread_starts
from ..errors import UsageError
from ..settings import check
from .merging import Window, merge

#: Share of a window that the next one shows, too.
OVERLAP = 0.25

_Tile = Annotated[int, Field(ge=32)]
_Overlap = Annotated[float, Field(ge=0.01, le=0.9)]


@dataclass(frozen=True)
class Tiling:
    """Size and overlap of the windows.

    Attributes:
        tile (int): Side of a window, in pixels of the picture.
        overlap (float): Least share of it that neighbouring windows have in common, 0.01 to 0.9.
    """

    tile: int
    overlap: float = OVERLAP

    @property
    def common(self) -> int:
        """Pixels that neighbouring windows share at least."""
        return max(1, round(self.tile * self.overlap))

    def windows(self, height: int, width: int) -> List[Window]:
        """The fewest windows that cover a picture with this overlap, evenly spread, row by row.

        A window is as large as the picture where that is smaller.
        """
        high, wide = min(self.tile, height), min(self.tile, width)
        return [Window(x, y, x + wide, y + high)
                for y in spread_starts(0, height, high, min(self.common, high - 1))
                for x in spread_starts(0, width, wide, min(self.common, wide - 1))]

    def merged(self, found: Sequence[InstanceData], shape: Sequence[int]) -> InstanceData:
        """Detections of all windows of a picture, see :func:`merge`."""
        return merge(found, self.windows(*shape[:2]), shape, self.common)


def tiling_of(tile: Optional[int], overlap: Optional[float], *, prefix: str = '') -> Optional[Tiling]:
    """Check size and overlap of the windows; None without a size.

    Args:
        tile (int, optional): Side of a window.
        overlap (float, optional): Share that windows have in common; None is 0.25.
        prefix (str): Text before their names in messages.

    Raises:
        UsageError: If one is out of range, or an overlap is given without a size.
    """
    if tile is None:
        if overlap is not None:
            raise UsageError(f'{prefix}overlap is for detection in windows: add {prefix}tile, the side of a '
                             f'window in pixels, or remove {prefix}overlap', 'missing-argument')
        return None
    check(tile, _Tile, name=f'{prefix}tile', argument=True)
    overlap = OVERLAP if overlap is None else overlap
    check(overlap, _Overlap, name=f'{prefix}overlap', argument=True)
    return Tiling(tile, overlap)


def detect_in_windows(loaded: Dict[str, Any], tiling: Tiling, batch_size: int,
                      detect: Callable[[Sequence[Dict[str, Any]]], Sequence[DetDataSample]]) -> DetDataSample:
    """Detections in one picture. Of the windows that are done only the detections stay in memory.

    Args:
        loaded (dict): The picture after the first step of the test pipeline; ``img`` has shape (H, W, 3).
        tiling (Tiling): The windows.
        batch_size (int): Windows at a time.
        detect (Callable): Gets windows in the form of ``loaded``; returns their samples.
    """
    shape = loaded['img'].shape[:2]
    found: List[InstanceData] = []
    for batch in _batches(loaded, tiling.windows(*shape), batch_size):
        found.extend(sample.pred_instances.cpu() for sample in detect(batch))
    about = dict(img_path=loaded.get('img_path'), ori_shape=shape, img_shape=shape)
    return DetDataSample(metainfo=about, pred_instances=tiling.merged(found, shape))


def _batches(loaded, windows, size) -> Iterator[List[Dict[str, Any]]]:
    for first in range(0, len(windows), size):
        parts = [np.ascontiguousarray(loaded['img'][window.top:window.bottom, window.left:window.right])
                 for window in windows[first:first + size]]
        yield [dict(loaded, img=part, img_shape=part.shape[:2], ori_shape=part.shape[:2]) for part in parts]
