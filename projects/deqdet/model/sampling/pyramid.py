"""What every back end of the sampling is."""

from abc import ABC, abstractmethod
from typing import Sequence

import torch
from torch import Tensor


class FeaturePyramid(ABC):
    """Feature levels of a batch, ready to be sampled at points of any scale.

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
        # Made once: a copy to a GPU makes the program wait for it.
        self.level_z = torch.log2(
            torch.tensor(self.strides, dtype=features[0].dtype, device=features[0].device))

    def sample(self, points: Tensor) -> Tensor:
        """Sample every group's channels at its points.

        Several states of the same images may be sampled at once: their queries are queries of the one
        image, and its features are not repeated for them.

        Args:
            points (Tensor): (x, y, z) of :func:`place_points`, has shape (B * S, N, G, P, 3) for S states
                an image, image-major.

        Returns:
            Tensor: Sampled values, has shape (B * S, N, G, P, C / G). The channels are split into G
            contiguous groups.
        """
        by_image = points.reshape(self.batch, -1, *points.shape[2:])
        return self.sample_images(by_image).reshape(*points.shape[:-1], -1)

    @abstractmethod
    def select(self, images: Tensor) -> 'FeaturePyramid':
        """The pyramid of some images, given by their indices, has shape (K,)."""

    @abstractmethod
    def sample_images(self, points: Tensor) -> Tensor:
        """The same for one state an image: from (B, N, G, P, 3) to (B, N, G, P, C / G)."""
