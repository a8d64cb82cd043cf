"""Mask heads: instance masks of queries, from their contents, their boxes and the features.

Masks do not feed back into the decoder: the equilibrium with and without them is the same.
"""

from .head import MaskHead, MaskTraining, Matched, build_mask_heads
from .local import WarpedEfficientDynamicMaskHead
from .separate import DeCoupleHead, DeCoupleMLVLEHead
from .supervision import MaskSupervision

__all__ = ['DeCoupleHead', 'DeCoupleMLVLEHead', 'MaskHead', 'MaskSupervision', 'MaskTraining', 'Matched',
           'WarpedEfficientDynamicMaskHead', 'build_mask_heads']
