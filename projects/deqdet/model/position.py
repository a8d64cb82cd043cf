"""Position codec: converts between the position vector (x, y, z, r) of a query and its box."""

import torch
from torch import Tensor

# Keeps the logarithms of a degenerate box finite.
SIZE_EPS = 1e-7


class PositionCodec:
    """Converts boxes to positions and back (AdaMixer, section 3.1).

    ``x`` and ``y`` are the centre in pixels of the padded input, ``z`` is log2 of the geometric mean of
    width and height, ``r`` is log2(height / width). The codec has no state and computes in the precision of
    its arguments. Callers keep positions and boxes in float32, because half precision cannot distinguish
    neighbouring pixels in a large image.
    """

    @staticmethod
    def encode(box: Tensor) -> Tensor:
        """Encode boxes as positions.

        Noise may swap the corners of a box, so the absolute value of its size is used.

        Args:
            box (Tensor): (x1, y1, x2, y2) in pixels, has shape (..., 4).

        Returns:
            Tensor: (x, y, z, r), has shape (..., 4).
        """
        centre = 0.5 * (box[..., :2] + box[..., 2:])
        size = (box[..., 2:] - box[..., :2]).abs()
        log_w, log_h = torch.log2(size + SIZE_EPS).unbind(-1)
        return torch.cat([centre, torch.stack([0.5 * (log_w + log_h), log_h - log_w], -1)], dim=-1)

    @staticmethod
    def decode(position: Tensor) -> Tensor:
        """Boxes (x1, y1, x2, y2) in pixels, has shape (..., 4), of positions, has shape (..., 4)."""
        half_size = 0.5 * PositionCodec.size(position)
        centre = position[..., :2]
        return torch.cat([centre - half_size, centre + half_size], dim=-1)

    @staticmethod
    def move(position: Tensor, delta: Tensor) -> Tensor:
        """Move positions by predicted deltas.

        Args:
            position (Tensor): (x, y, z, r), has shape (..., 4).
            delta (Tensor): Deltas of the box branch, has shape (..., 4): for the centre in units of the
                incoming scale 2^z, for scale and aspect ratio in log space.
        """
        scale = 2.0 ** position[..., 2:3]
        return torch.cat(
            [position[..., :2] + delta[..., :2] * scale, position[..., 2:] + delta[..., 2:]], dim=-1)

    @staticmethod
    def size(position: Tensor) -> Tensor:
        """(width, height) of boxes in pixels, has shape (..., 2), of positions, has shape (..., 4)."""
        half_ratio = 0.5 * position[..., 3:4]
        # A product of two powers, not one power of a sum, rounds as the released models do.
        return 2.0 ** position[..., 2:3] * 2.0 ** torch.cat([-half_ratio, half_ratio], dim=-1)
