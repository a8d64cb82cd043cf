"""Maps that a box gives alone: where an object is, for global masks."""

import math
from typing import Sequence

import torch
from torch import Tensor, nn

from ...dtypes import widened

# Wavelengths of the sines in pixels. Two cells of the finest level (stride 4) are the shortest that its cells
# can show; the longest exceeds the images of COCO.
_SHORTEST, _LONGEST = 8.0, 2048.0


class PlaceFilter(nn.Module):
    """Inner product of Linear(place of the box) and the sines of each cell.

    A content vector tells what an object is, the box where it is. A global mask is a filter on features that
    must find one object among others of its kind, so without this its gradient makes contents tell where
    their object is, at the cost of the class. The sines are those of a transformer's positions (Vaswani et
    al., 2017, section 3.5), of x and of y.

    Args:
        width (int): Number of sines of a cell, divisible by 4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        # The sines of the centre, and the logarithms of width and height.
        self.embed = nn.Linear(width + 2, width)
        self.rates = [2 * math.pi / _SHORTEST * (_SHORTEST / _LONGEST) ** (number / max(1, width // 4 - 1))
                      for number in range(width // 4)]

    def forward(self, box: Tensor, size: Sequence[int], stride: int) -> Tensor:
        """Logits of a level's cells.

        Args:
            box (Tensor): Boxes (x1, y1, x2, y2) in pixels of the network's input, has shape ([B,] P, 4).
            size (Sequence[int]): Height H and width W of the level.
            stride (int): Pixels of the network's input per cell.

        Returns:
            Tensor: Has shape ([B,] P, H, W), in float32 or float64.
        """
        with torch.autocast(box.device.type, enabled=False):
            box = widened(box)
            low, high = box[..., :2], box[..., 2:]
            extent = (high - low).clamp(min=1).log() / 4
            weights = self.embed(torch.cat([self._sines((low + high) / 2).flatten(-2), extent], dim=-1)
                                 .to(self.embed.weight.dtype))
            of_x, of_y = widened(weights).unflatten(-1, (2, -1)).unbind(-2)
            rows, columns = (self._sines((torch.arange(count, dtype=of_x.dtype, device=box.device) + 0.5)
                                         * stride) for count in size)
            # A sine depends on x or on y, so each half has one value for all rows or columns.
            return (of_x @ columns.mT)[..., None, :] + (of_y @ rows.mT)[..., None]

    def _sines(self, pixels: Tensor) -> Tensor:
        """Sines and cosines of coordinates: from shape (...) to (..., W / 2)."""
        angle = pixels[..., None] * pixels.new_tensor(self.rates)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)
