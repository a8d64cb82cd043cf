"""The states of the decoders: the input and output of each stage."""

from typing import List, NamedTuple, Optional, Sequence, Tuple, TypeVar

import torch
from torch import Tensor

from ..dtypes import widened
from ..equilibrium import Residual, additive_noise, relative_noise
from .position import PositionCodec


class DecoderState(NamedTuple):
    """Latent variable y = (p, q) of all queries, and the predictions of the layer that computed it.

    Attributes:
        position (Tensor): (x, y, z, r) in pixels and log2 of pixels, float32 or float64, has shape (B, N, 4).
        content (Tensor): Content vectors, has shape (B, N, C).
        box (Tensor): Last predicted boxes (x1, y1, x2, y2) in pixels, float32 or float64, has shape
            (B, N, 4).
        logits (Tensor, optional): Class scores before the sigmoid, has shape (B, N, K); None before the first
            layer.
    """

    position: Tensor
    content: Tensor
    box: Tensor
    logits: Optional[Tensor] = None

    @classmethod
    def from_boxes(cls, box: Tensor, content: Tensor) -> 'DecoderState':
        """A state without logits from boxes, has shape (B, N, 4), and contents, has shape (B, N, C)."""
        return cls(position=PositionCodec.encode(box), content=content, box=box)

    @classmethod
    def from_position(cls, position: Tensor, content: Tensor) -> 'DecoderState':
        """The same from positions, has shape (B, N, 4), and contents."""
        return cls(position=position, content=content, box=PositionCodec.decode(position))

    def detach(self) -> 'DecoderState':
        """The same values without their graph."""
        return DecoderState(self.position.detach(), self.content.detach(), self.box.detach(),
                            None if self.logits is None else self.logits.detach())

    @classmethod
    def join(cls, states: Sequence['DecoderState']) -> 'DecoderState':
        """Join S states of the same B images to one batch, image-major, without logits.

        Returns:
            DecoderState: Parts of shape (B * S, N, ...).
        """
        parts = zip(*(state[:3] for state in states))
        return cls(*(torch.stack(part, dim=1).flatten(0, 1) for part in parts))

    def pack(self) -> List[Tensor]:
        """The latent variable in parts with one unit each, see :func:`pack_latent`."""
        return pack_latent(self.content, self.position)

    def unpack(self, parts: Sequence[Tensor]) -> 'DecoderState':
        """This state with another latent variable, in the form of :meth:`pack`, and the box of it."""
        content, position = unpack_latent(parts, self.content.shape)
        return self._replace(content=content, position=position, box=PositionCodec.decode(position))

    def split(self, count: int) -> List['DecoderState']:
        """Undo :meth:`join` of ``count`` states."""
        parts = (part.unflatten(0, (-1, count)).unbind(1) for part in self if part is not None)
        return [DecoderState(*state) for state in zip(*parts)]


class BoxState(NamedTuple):
    """Latent variable of a decoder whose position is the box itself, as in Sparse R-CNN.

    Attributes:
        box (Tensor): (x1, y1, x2, y2) in pixels, float32 or float64, has shape (B, N, 4).
        content (Tensor): Object features, has shape (B, N, C).
        logits (Tensor, optional): Class scores before the sigmoid, has shape (B, N, K); None before the first
            stage.
    """

    box: Tensor
    content: Tensor
    logits: Optional[Tensor] = None

    @property
    def position(self) -> Tensor:
        """(x, y, z, r) of the boxes, has shape (B, N, 4)."""
        return PositionCodec.encode(self.box)

    def pack(self) -> List[Tensor]:
        """The latent variable in parts with one unit each, see :func:`pack_latent`."""
        return pack_latent(self.content, self.position)

    def unpack(self, parts: Sequence[Tensor]) -> 'BoxState':
        """This state with another latent variable, in the form of :meth:`pack`."""
        content, position = unpack_latent(parts, self.content.shape)
        return self._replace(content=content, box=PositionCodec.decode(position))

    def detach(self) -> 'BoxState':
        """The same values without their graph."""
        return BoxState(self.box.detach(), self.content.detach(),
                        None if self.logits is None else self.logits.detach())


def pack_latent(content: Tensor, position: Tensor) -> List[Tensor]:
    """Contents and positions in parts for solvers that mix states; each part has one unit.

    Args:
        content (Tensor): Has shape (B, N, C).
        position (Tensor): (x, y, z, r), has shape (B, N, 4).

    Returns:
        list[Tensor]: Contents, centres (x, y) in pixels, and (z, r) in octaves; each has shape (B, D).
    """
    return [part.flatten(1) for part in (content, position[..., :2], position[..., 2:])]


def unpack_latent(parts: Sequence[Tensor], shape: Sequence[int]) -> Tuple[Tensor, Tensor]:
    """Undo :func:`pack_latent`.

    Args:
        parts (Sequence[Tensor]): Its result.
        shape (Sequence[int]): (B, N, C) of the contents.

    Returns:
        tuple[Tensor, Tensor]: Contents and positions.
    """
    content, *position = parts
    return content.view(shape), torch.cat([part.unflatten(1, (shape[1], 2)) for part in position], dim=-1)


AnyState = TypeVar('AnyState', DecoderState, BoxState)


def perturb_content(state: AnyState, intensity: float) -> AnyState:
    """Add RAP's content noise, relative to each query's norm (supplement, Algorithm 1)."""
    return state._replace(content=relative_noise(state.content, intensity))


def perturb_position(state: DecoderState, intensity: float) -> DecoderState:
    """Add RAP's position noise in pixels to the corners of the last box, and encode it (Algorithm 1).

    The noise may swap corners. The next layer gets the noisy box too.
    """
    box = additive_noise(state.box, intensity)
    return state._replace(box=box, position=PositionCodec.encode(box))


def perturb_box(state: BoxState, intensity: float) -> BoxState:
    """Position noise for a :class:`BoxState`: pixels on the corners of the box, which are then sorted.

    The noise is drawn image by image, in order.
    """
    box = torch.stack([additive_noise(box, intensity) for box in state.box])
    first, second = box.unflatten(-1, (2, 2)).unbind(-2)
    return state._replace(box=torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1))


def content_residual(before: AnyState, after: AnyState) -> Residual:
    """Length of the content's step: Euclidean, and relative to the length of the content."""
    length = torch.linalg.vector_norm(widened(after.content) - widened(before.content), dim=-1)
    size = torch.linalg.vector_norm(widened(after.content), dim=-1)
    return Residual(length.mean(-1), (length / size).mean(-1))


def position_residual(before: AnyState, after: AnyState) -> Residual:
    """Mean movement of a box's sides: in pixels, and relative to the mean scale 2^z of the image's boxes.

    The scale of the single box is not used, because a query without object may shrink its box to zero.
    """
    distance = (after.box - before.box).abs().mean(dim=(-2, -1))
    return Residual(distance, distance / (2.0 ** after.position[..., 2]).mean(-1))


def score_residual(before: AnyState, after: AnyState) -> Residual:
    """Largest change of a query's scores, 0 to 1, and relative to the largest score.

    Proposals have no scores, so the change by the first layer is NaN.
    """
    assert after.logits is not None  # the output of a layer has scores
    score = after.logits.sigmoid()
    start = torch.full_like(score, torch.nan) if before.logits is None else before.logits.sigmoid()
    change = (score - start).abs().amax(-1).mean(-1)
    return Residual(change, change / score.amax(-1).mean(-1))
