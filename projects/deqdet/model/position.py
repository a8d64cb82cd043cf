"""Position codec: the position vector (x, y, z, r) of a query and its box.

``x`` and ``y`` are the centre in pixels of the padded input, ``z`` is log2 of the geometric mean of
width and height, ``r`` is log2(height / width) (AdaMixer, section 3.1). All functions are pure and
compute in the precision of their arguments; callers keep positions and boxes in float32, since half
precision cannot tell neighbouring pixels apart in a large image.
"""

import torch
from torch import Tensor

# Keeps the logarithms of a degenerate box finite.
SIZE_EPS = 1e-7


def size_of(position: Tensor) -> Tensor:
    """Width and height of the box at a position.

    Args:
        position (Tensor): (x, y, z, r), has shape (..., 4).

    Returns:
        Tensor: (width, height) in pixels, has shape (..., 2).
    """
    half_ratio = 0.5 * position[..., 3:4]
    # Scale times ratio, not one power of the sum: the rounding of the released models.
    return 2.0 ** position[..., 2:3] * 2.0 ** torch.cat([-half_ratio, half_ratio], dim=-1)


def position_to_box(position: Tensor) -> Tensor:
    """Decode positions to boxes.

    Args:
        position (Tensor): (x, y, z, r), has shape (..., 4).

    Returns:
        Tensor: (x1, y1, x2, y2) in pixels, has shape (..., 4).
    """
    half_size = 0.5 * size_of(position)
    centre = position[..., :2]
    return torch.cat([centre - half_size, centre + half_size], dim=-1)


def box_to_position(box: Tensor) -> Tensor:
    """Encode boxes as positions.

    The corners of a perturbed box may be swapped: its size is taken as absolute value.

    Args:
        box (Tensor): (x1, y1, x2, y2) in pixels, has shape (..., 4).

    Returns:
        Tensor: (x, y, z, r), has shape (..., 4).
    """
    centre = 0.5 * (box[..., :2] + box[..., 2:])
    size = (box[..., 2:] - box[..., :2]).abs()
    log_w, log_h = torch.log2(size + SIZE_EPS).unbind(-1)
    return torch.cat([centre, torch.stack([0.5 * (log_w + log_h), log_h - log_w], -1)], dim=-1)


def apply_delta(position: Tensor, delta: Tensor) -> Tensor:
    """Move positions by predicted deltas.

    Args:
        position (Tensor): (x, y, z, r), has shape (..., 4).
        delta (Tensor): Deltas of the box branch, has shape (..., 4): the centre moves in units of the
            incoming scale 2^z, scale and aspect ratio move in log space.

    Returns:
        Tensor: Moved positions, has shape (..., 4).
    """
    scale = 2.0 ** position[..., 2:3]
    return torch.cat(
        [position[..., :2] + delta[..., :2] * scale, position[..., 2:] + delta[..., 2:]], dim=-1)


def intersection_over_first(box: Tensor) -> Tensor:
    """Intersection of each two boxes over the area of the first.

    mmdet's ``bbox_overlaps`` in its mode ``iof`` to the bit. That one copies a number to the device at each
    call, and a program waits for its GPU then.

    Args:
        box (Tensor): (x1, y1, x2, y2), has shape (B, N, 4).

    Returns:
        Tensor: Has shape (B, N, N).
    """
    area = (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
    corner = torch.max(box[..., :, None, :2], box[..., None, :, :2])
    opposite = torch.min(box[..., :, None, 2:], box[..., None, :, 2:])
    width, height = (opposite - corner).clamp(min=0).unbind(-1)
    return width * height / area.clamp(min=1e-6)[..., None]
