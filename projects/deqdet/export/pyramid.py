"""Sampling in a form that can be recorded for any size of the features."""

from typing import Sequence

import torch
from torch import Tensor

from ..model.sampling import FeaturePyramid, GridPyramid


class SymbolicPyramid(GridPyramid):
    """:class:`GridPyramid`, each level's extent being computed from its size.

    ``torch.tensor`` of a size makes a number of it, and the recorded program would be one for features of
    this size alone.
    """

    def __init__(self, features: Sequence[Tensor], strides: Sequence[int]) -> None:
        FeaturePyramid.__init__(self, features, strides)
        self.features = tuple(features)
        self.extents = [
            torch.stack([feature.new_full((), feature.shape[3] * stride),
                         feature.new_full((), feature.shape[2] * stride)])
            for feature, stride in zip(features, strides)
        ]
