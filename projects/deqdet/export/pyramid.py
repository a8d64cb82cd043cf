"""Sampling that can be recorded for features of any size."""

import torch
from torch import Tensor

from ..model.sampling import GridPyramid


class SymbolicPyramid(GridPyramid):
    """:class:`GridPyramid` that computes the extent of each level from its symbolic size.

    ``torch.tensor`` converts a size to a number, so the recorded program would work only for this size.
    """

    def extent(self, feature: Tensor, stride: int) -> Tensor:
        height, width = feature.shape[-2:]
        return torch.stack([feature.new_full((), width * stride), feature.new_full((), height * stride)])
