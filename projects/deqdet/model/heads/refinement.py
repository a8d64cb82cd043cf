"""The refinement layer as solvers want it."""

from dataclasses import dataclass, replace

from torch import Tensor

from ..layer_protocol import DecoderLayer
from ..sampling import FeaturePyramid
from ..state import DecoderState


@dataclass(frozen=True)
class Refinement:
    """The refinement layer on the features of a batch, f(x, .).

    Attributes:
        layer (DecoderLayer): f.
        pyramid (FeaturePyramid): x.
        classify (bool): Give logits too. On the way to the equilibrium nobody reads them.
    """

    layer: DecoderLayer
    pyramid: FeaturePyramid
    classify: bool = True

    def __call__(self, state: DecoderState) -> DecoderState:
        """Apply the layer once."""
        return self.layer(self.pyramid, state, classify=self.classify)

    def restrict(self, images: Tensor) -> 'Refinement':
        """The same for some images, given by their indices, has shape (K,)."""
        return replace(self, pyramid=self.pyramid.select(images))
