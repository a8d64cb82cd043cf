"""Base class of the back ends of the sampling."""

from abc import ABC, abstractmethod
from typing import Sequence

import torch
from torch import Tensor


class FeaturePyramid(ABC):
    """Feature levels of a batch, prepared for sampling at points of any scale.

    Each level is interpolated bilinearly (zero outside, pixel centres at half-integers) and weighted by
    :func:`level_weights`.

    Args:
        features (Sequence[Tensor]): L maps, has shape (B, C, H_l, W_l).
        strides (Sequence[int]): Pixels of the input per feature cell, L of them.
    """

    def __init__(self, features: Sequence[Tensor], strides: Sequence[int]) -> None:
        self.batch = features[0].shape[0]
        self.strides = tuple(strides)
        self.device = features[0].device
        self.dtype = features[0].dtype
        # Computed once, because a copy to a GPU makes the program wait.
        self.level_z = torch.log2(
            torch.tensor(self.strides, dtype=features[0].dtype, device=features[0].device))

    def sample(self, points: Tensor) -> Tensor:
        """Sample the channels of each group at its points.

        Several states of the same images can be sampled in one call, without repeating the features.

        Args:
            points (Tensor): (x, y, z) of :func:`place_points`, has shape (B * S, N, G, P, 3) for S states
                of each image, image-major.

        Returns:
            Tensor: Sampled values, has shape (B * S, N, G, P, C / G). The channels are split into G
            contiguous groups.
        """
        by_image = points.reshape(self.batch, -1, *points.shape[2:])
        return self.sample_images(by_image).reshape(*points.shape[:-1], -1)

    @abstractmethod
    def select(self, images: Tensor) -> 'FeaturePyramid':
        """The pyramid of the images with these indices, has shape (K,)."""

    @abstractmethod
    def sample_images(self, points: Tensor) -> Tensor:
        """:meth:`sample` with one state per image: from (B, N, G, P, 3) to (B, N, G, P, C / G)."""
