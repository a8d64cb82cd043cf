"""The refinement layer as a step for solvers."""

from dataclasses import dataclass, replace

from torch import Tensor

from ..layer_protocol import DecoderLayer
from ..sampling import FeaturePyramid
from ..state import DecoderState


@dataclass(frozen=True)
class Refinement:
    """The refinement layer with the features of a batch, f(x, .).

    Attributes:
        layer (DecoderLayer): f.
        pyramid (FeaturePyramid): x.
        classify (bool): Compute logits too. The steps to the equilibrium do not use them.
    """

    layer: DecoderLayer
    pyramid: FeaturePyramid
    classify: bool = True

    def __call__(self, state: DecoderState) -> DecoderState:
        """Apply the layer once."""
        return self.layer(self.pyramid, state, classify=self.classify)

    def restrict(self, images: Tensor) -> 'Refinement':
        """The step for the images with these indices, has shape (K,)."""
        return replace(self, pyramid=self.pyramid.select(images))
