"""Sampling in a form that can be recorded for any size of the features."""

import torch
from torch import Tensor

from ..model.sampling import GridPyramid


class SymbolicPyramid(GridPyramid):
    """:class:`GridPyramid`, each level's extent being computed from its size.

    ``torch.tensor`` of a size makes a number of it, and the recorded program would be one for features of
    this size alone.
    """

    def extent(self, feature: Tensor, stride: int) -> Tensor:
        height, width = feature.shape[-2:]
        return torch.stack([feature.new_full((), width * stride), feature.new_full((), height * stride)])
