"""Adaptive 3-D sampling: points in (x, y, scale), values interpolated from all feature levels.

AdaMixer, section 3.2. One function, :func:`sample_features`, is what the decoder calls; a faster
back end belongs behind it.
"""

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .position import size_of


def place_points(position: Tensor, offsets: Tensor) -> Tensor:
    """Turn a query's offsets into sampling points.

    Args:
        position (Tensor): (x, y, z, r), has shape (B, N, 4).
        offsets (Tensor): (dx, dy, dz), the first two in units of the box's width and height, has
            shape (B, N, G, P, 3).

    Returns:
        Tensor: (x, y, z) in pixels and log2 of pixels, float32, has shape (B, N, G, P, 3).
    """
    position = position.float()
    centre = position[:, :, None, None, :3]
    size = size_of(position)[:, :, None, None, :]
    offsets = offsets.float()
    return torch.cat([centre[..., :2] + offsets[..., :2] * size, centre[..., 2:] + offsets[..., 2:]],
                     dim=-1)


def level_weights(z: Tensor, strides: Sequence[int]) -> Tensor:
    """Softmax over the levels of -(z - log2 stride)^2 / 2.

    Args:
        z (Tensor): Scale of the points, log2 of pixels, of any shape.
        strides (Sequence[int]): Pixels of the input per feature cell, L of them.

    Returns:
        Tensor: Weights that sum to one over the last dimension, has shape (..., L).
    """
    level_z = torch.log2(torch.tensor(strides, dtype=z.dtype, device=z.device))
    return torch.softmax(-0.5 * (z[..., None] - level_z) ** 2, dim=-1)


def sample_features(features: Sequence[Tensor], points: Tensor, strides: Sequence[int]) -> Tensor:
    """Sample every group's channels at its points.

    Each level is interpolated bilinearly (zero outside, pixel centres at half-integers) and weighted
    by :func:`level_weights`.

    Args:
        features (Sequence[Tensor]): L maps, has shape (B, C, H_l, W_l); C is split into G contiguous
            groups.
        points (Tensor): (x, y, z) of :func:`place_points`, has shape (B, N, G, P, 3).
        strides (Sequence[int]): Pixels of the input per feature cell, L of them.

    Returns:
        Tensor: Sampled values, has shape (B, N, G, P, C / G).
    """
    batch, queries, groups, num_points, _ = points.shape
    weights = level_weights(points[..., 2], strides)
    # Groups join the batch: (B * G, N, P, ...).
    by_group = points[..., :2].transpose(1, 2).reshape(batch * groups, queries, num_points, 2)
    weights = weights.transpose(1, 2).reshape(batch * groups, 1, queries, num_points, len(strides))
    sampled = 0
    for level, (feature, stride) in enumerate(zip(features, strides)):
        height, width = feature.shape[-2:]
        extent = by_group.new_tensor([width * stride, height * stride])
        value = F.grid_sample(
            feature.reshape(batch * groups, -1, height, width).to(by_group.dtype),
            2 * by_group / extent - 1,
            mode='bilinear', padding_mode='zeros', align_corners=False)
        sampled = sampled + value * weights[..., level]
    # (B * G, C / G, N, P) -> (B, N, G, P, C / G)
    return sampled.reshape(batch, groups, -1, queries, num_points).permute(0, 3, 1, 4, 2)
