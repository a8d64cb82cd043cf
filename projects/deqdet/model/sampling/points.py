"""The sampling points of a query, and their weights over the levels."""

import torch
from torch import Tensor

from ...dtypes import widened
from ..position import PositionCodec


def place_points(position: Tensor, offsets: Tensor) -> Tensor:
    """Convert the offsets of queries to sampling points.

    Args:
        position (Tensor): (x, y, z, r), has shape (B, N, 4).
        offsets (Tensor): (dx, dy, dz), dx and dy in units of the box's width and height, has shape
            (B, N, G, P, 3).

    Returns:
        Tensor: (x, y, z) in pixels and log2 of pixels, in float32 or float64, has shape (B, N, G, P, 3).
    """
    position = widened(position)
    centre = position[:, :, None, None, :3]
    size = PositionCodec.size(position)[:, :, None, None, :]
    offsets = widened(offsets)
    return torch.cat([centre[..., :2] + offsets[..., :2] * size, centre[..., 2:] + offsets[..., 2:]],
                     dim=-1)


def level_weights(z: Tensor, level_z: Tensor, *, first: bool = False) -> Tensor:
    """Softmax over the levels of -(z - log2 stride)^2 / 2.

    Args:
        z (Tensor): Scale of the points, log2 of pixels, of any shape.
        level_z (Tensor): Log2 of the strides, has shape (L,).
        first (bool): Return shape (L, ...) instead of (..., L).
    """
    if first:
        return torch.softmax(-0.5 * (z - level_z.view(-1, *[1] * z.dim())) ** 2, dim=0)
    return torch.softmax(-0.5 * (z[..., None] - level_z) ** 2, dim=-1)
