"""Starts from an earlier equilibrium: of the last frame of a video, or of another view."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import torch
from mmdet.structures import DetDataSample, SampleList
from torch import Tensor

from ...errors import UsageError
from ..state import DecoderState

_FLIPS = {None: (False, False), 'horizontal': (True, False), 'vertical': (False, True),
          'diagonal': (True, True)}


@dataclass(frozen=True)
class Equilibrium:
    """The solved state of one image, and the view of the image.

    Attributes:
        position (Tensor): (x, y, z, r) of the queries in pixels of the network's input, has shape (N, 4).
        content (Tensor): Their contents, has shape (N, C).
        shape (tuple[int, int]): Height and width of the image in the network's input, without padding.
        flips (tuple[bool, bool]): Whether the image was flipped horizontally, and vertically.
        refinements (int): Number of refinements that were needed.
    """

    position: Tensor
    content: Tensor
    shape: Tuple[int, int]
    flips: Tuple[bool, bool]
    refinements: int

    def seen_as(self, sample: DetDataSample) -> Tuple[Tensor, Tensor]:
        """Positions and contents in another view of the same scene: another size, or flipped.

        Args:
            sample (:obj:`DetDataSample`): Its meta information describes the view.

        Returns:
            tuple[Tensor, Tensor]: Positions, has shape (N, 4), and contents, has shape (N, C).
        """
        shape, flips = view_of(sample)
        x, y, z, r = self.position.unbind(-1)
        vertical, horizontal = (new / old for new, old in zip(shape, self.shape))
        x, y = x * horizontal, y * vertical
        if flips[0] != self.flips[0]:
            x = shape[1] - x
        if flips[1] != self.flips[1]:
            y = shape[0] - y
        stretch = torch.log2(self.position.new_tensor([horizontal, vertical]))
        return torch.stack([x, y, z + stretch.mean(), r + stretch[1] - stretch[0]], -1), self.content


def view_of(sample: DetDataSample) -> Tuple[Tuple[int, int], Tuple[bool, bool]]:
    """Shape and flips of a sample's image."""
    meta = sample.metainfo
    return tuple(meta['img_shape'][:2]), _FLIPS[meta.get('flip_direction') if meta.get('flip') else None]


def warm(state: DecoderState, samples: SampleList, starts: Sequence[Optional[Equilibrium]], *,
         dtype: torch.dtype = torch.float32) -> DecoderState:
    """The start of a batch: the given equilibria, and y_0 for images without one.

    Args:
        state (DecoderState): y_0; used for images without an equilibrium.
        samples (list[:obj:`DetDataSample`]): Samples.
        starts (Sequence[Equilibrium or None]): One for each sample.
        dtype (torch.dtype): Precision of the model; a start may have another one.

    Returns:
        DecoderState: State without logits.

    Raises:
        UsageError: If the starts of the images differ in number of queries or width.
    """
    parts = []
    for image, (sample, start) in enumerate(zip(samples, starts)):
        if start is None:
            parts.append((state.position[image], state.content[image]))
        else:
            parts.append(start.seen_as(sample))
    shapes = {tuple(content.shape) for _, content in parts}
    if len(shapes) > 1:
        raise UsageError(f'start: equilibria of {" and ".join(map(str, sorted(shapes)))} (queries, width) in '
                         'one batch; use only equilibria of this model', 'bad-argument')
    position, content = (
        torch.stack([value.to(dtype) for value in part]) for part in zip(*parts))
    return DecoderState.from_position(position, content)


def equilibria_of(state: DecoderState, samples: SampleList, refinements: Sequence[int]) -> List[Equilibrium]:
    """The equilibrium of each image of a decoded batch."""
    return [Equilibrium(position, content, *view_of(sample), count)
            for position, content, sample, count in zip(state.position, state.content, samples, refinements)]
