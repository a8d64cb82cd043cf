"""The state of the decoder, the record that travels through every stage of it."""

from typing import NamedTuple, Optional

from torch import Tensor

from .equilibrium import additive_noise, relative_noise
from .position import box_to_position


class DecoderState(NamedTuple):
    """Latent variable y = (p, q) of all queries and what the layer that made it predicted.

    Attributes:
        position (Tensor): (x, y, z, r) in pixels and log2 of pixels, float32, has shape (B, N, 4).
        content (Tensor): Content vectors, has shape (B, N, C).
        box (Tensor): Last predicted boxes (x1, y1, x2, y2) in pixels, float32, has shape (B, N, 4).
        logits (Tensor, optional): Class scores before the sigmoid, has shape (B, N, K). None before
            the first layer.
    """

    position: Tensor
    content: Tensor
    box: Tensor
    logits: Optional[Tensor] = None

    def detach(self) -> 'DecoderState':
        """The same values without their graph."""
        return DecoderState(*(None if part is None else part.detach() for part in self))


def perturb_content(state: DecoderState, intensity: float) -> DecoderState:
    """Content noise of RAP, relative to each query's norm (supplement, Algorithm 1)."""
    return state._replace(content=relative_noise(state.content, intensity))


def perturb_position(state: DecoderState, intensity: float) -> DecoderState:
    """Position noise of RAP: pixels on the corners of the last box, re-encoded (Algorithm 1).

    Corners may come out swapped. The layer that follows sees the noisy box as well.
    """
    box = additive_noise(state.box, intensity)
    return state._replace(box=box, position=box_to_position(box))
