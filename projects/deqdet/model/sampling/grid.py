"""Sampling with one `grid_sample` per level: equal to the released models to the last bit."""

from typing import Any, Sequence

import torch.nn.functional as F
from torch import Tensor

from .points import level_weights
from .pyramid import FeaturePyramid


class GridPyramid(FeaturePyramid):
    """Uses the feature maps directly, without preparation, so it suits small features."""

    def __init__(self, features: Sequence[Tensor], strides: Sequence[int]) -> None:
        super().__init__(features, strides)
        self.features = tuple(features)
        self.extents = [self.extent(feature, stride) for feature, stride in zip(features, strides)]

    def extent(self, feature: Tensor, stride: int) -> Tensor:
        """Width and height of a level in pixels, has shape (2,)."""
        return feature.new_tensor([feature.shape[3] * stride, feature.shape[2] * stride])

    def select(self, images: Tensor) -> 'GridPyramid':
        return GridPyramid([feature[images] for feature in self.features], self.strides)

    def sample_images(self, points: Tensor) -> Tensor:
        batch, queries, groups, num_points, _ = points.shape
        weights = level_weights(points[..., 2], self.level_z)
        # Groups become part of the batch: (B * G, N, P, ...).
        by_group = points[..., :2].transpose(1, 2).reshape(batch * groups, queries, num_points, 2)
        weights = weights.transpose(1, 2).reshape(
            batch * groups, 1, queries, num_points, len(self.strides))
        sampled: Any = 0
        for level, (feature, extent) in enumerate(zip(self.features, self.extents)):
            value = F.grid_sample(
                feature.reshape(batch * groups, -1, *feature.shape[-2:]),
                2 * by_group / extent - 1,
                mode='bilinear', padding_mode='zeros', align_corners=False)
            sampled = sampled + value * weights[..., level]
        # (B * G, C / G, N, P) -> (B, N, G, P, C / G)
        return sampled.reshape(batch, groups, -1, queries, num_points).permute(0, 3, 1, 4, 2)
