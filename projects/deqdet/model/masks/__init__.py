"""Mask heads: instance masks of queries, from their contents, their boxes and the features.

Masks do not feed back into the decoder: the equilibrium with and without them is the same.
"""

from .head import MaskHead, MaskTraining, build_mask_heads
from .local import WarpedEfficientDynamicMaskHead
from .separate import DeCoupleHead, DeCoupleMLVLEHead

__all__ = ['DeCoupleHead', 'DeCoupleMLVLEHead', 'MaskHead', 'MaskTraining', 'WarpedEfficientDynamicMaskHead',
           'build_mask_heads']
