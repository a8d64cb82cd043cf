"""Sampling as one gather: every point is a weighted sum of 4 corners on each level."""

from copy import copy
from typing import Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .points import level_weights
from .pyramid import FeaturePyramid


class RowPyramid(FeaturePyramid):
    """All levels as one table with a row of channels for each cell, laid out once a batch.

    A point is then a bag of L x 4 rows, and `embedding_bag` adds them up without an intermediate value a
    level: a third of the time of four calls of `grid_sample` on large features, and of its memory in
    training.
    """

    def __init__(self, features: Sequence[Tensor], strides: Sequence[int]) -> None:
        super().__init__(features, strides)
        sizes = [feature.shape[-2:] for feature in features]
        cells = [height * width for height, width in sizes]
        # (B, cells of all levels, C)
        self.rows = torch.cat([feature.flatten(2).transpose(1, 2) for feature in features], dim=1)
        device = self.rows.device
        self.size = torch.tensor([(width, height) for height, width in sizes], device=device)
        self.stride = torch.tensor(self.strides, device=device)
        # Index of each level's first cell.
        self.first = torch.tensor([sum(cells[:level]) for level in range(len(cells))], device=device)

    def select(self, images: Tensor) -> 'RowPyramid':
        selected = copy(self)
        selected.rows, selected.batch = self.rows[images], len(images)
        return selected

    def sample_images(self, points: Tensor) -> Tensor:
        batch, queries, groups, num_points, _ = points.shape
        cell, weight = self.corners(points)
        # The row of a cell holds its groups one after another.
        image = torch.arange(batch, device=points.device).view(-1, 1, 1, 1, 1, 1, 1)
        group = torch.arange(groups, device=points.device).view(-1, 1, 1, 1, 1)
        row = (image * self.rows.shape[1] + cell) * groups + group
        sampled = F.embedding_bag(
            row.flatten(4).flatten(0, 3), self.rows.view(-1, self.rows.shape[2] // groups),
            per_sample_weights=weight.flatten(4).flatten(0, 3).to(self.rows.dtype), mode='sum')
        return sampled.view(batch, queries, groups, num_points, -1)

    def corners(self, points: Tensor) -> Tuple[Tensor, Tensor]:
        """The cells around each point and their share in its value.

        Args:
            points (Tensor): (x, y, z), has shape (B, N, G, P, 3).

        Returns:
            tuple[Tensor, Tensor]: Cells of an image, int64, and weights, 0 outside the level; both have
            shape (B, N, G, P, L, 2, 2), the last two being rows and columns.
        """
        place = points[..., None, :2] / self.stride[:, None] - 0.5  # (B, N, G, P, L, xy)
        # A diverged position is not a number; it must not become an index (its weight stays NaN).
        low = place.detach().floor().nan_to_num()
        share = place - low
        share = torch.stack([1 - share, share], dim=-1)  # (B, N, G, P, L, xy, low or high)
        index = torch.stack([low, low + 1], dim=-1)
        last = (self.size - 1)[..., None]
        share = share * ((index >= 0) & (index <= last))
        index = torch.minimum(index.clamp(min=0), last).long()
        column, line = index.unbind(-2)
        cell = self.first[:, None, None] + line[..., :, None] * self.size[:, :1, None] \
            + column[..., None, :]
        by_x, by_y = share.unbind(-2)
        level = level_weights(points[..., 2], self.level_z)
        return cell, (level[..., None] * by_y)[..., :, None] * by_x[..., None, :]
