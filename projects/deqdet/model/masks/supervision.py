"""Mask losses of all supervised states of a batch."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.model import ModuleList
from torch import Tensor

from ...dtypes import widened
from ..targets import Pairs, Targets
from .head import MaskHead, Matched, true_masks


class _State(NamedTuple):
    name: str
    weight: float
    content: Tensor
    box: Tensor
    pairs: Pairs


class MaskSupervision:
    """The masks of a batch in training: at points for the matching, and their losses.

    It collects the matched queries of the supervised states; their mask losses are computed at the end.
    For all states together this needs one pass over the features. Its gradient is as large as the features,
    so one pass for each state would cost almost as much as all of them.

    Args:
        heads (ModuleList, optional): The mask head of each decoder layer; None if there are no masks.
        features (Sequence[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l).
        targets (Targets): Ground truth with masks.
    """

    def __init__(self, heads: Optional[ModuleList], features: Sequence[Tensor], targets: Targets) -> None:
        self._heads, self._features, self._targets = heads, features, targets
        self._states: Dict[MaskHead, List[_State]] = defaultdict(list)

    def of(self, layer: int, *, weight: float = 1.0) -> 'LayerMasks':
        """What the criterion needs of a decoder layer's masks; ``weight`` is the factor of their losses."""
        return LayerMasks(self, layer, weight)

    def add(self, layer: int, name: str, state: Any, pairs: Pairs, *, weight: float = 1.0) -> None:
        """Add a supervised state.

        Args:
            layer (int): The decoder layer that computed it.
            name (str): Prefix of the keys of its losses.
            state (DecoderState or BoxState): The state with its graph.
            pairs (Pairs): Its matched queries.
            weight (float): Factor of its losses.
        """
        if self._heads is not None:
            self._states[self._heads[layer]].append(_State(name, weight, state.content, state.box, pairs))

    @torch.no_grad()
    def at_points(self, layer: int, state: Any, image: int) -> Tuple[Tensor, Tensor]:
        """Predicted and true masks of an image at random points, which are shared by all of them.

        Args:
            layer (int): The decoder layer that computed the state; its mask head has ``has_points``.
            state (DecoderState or BoxState): The state.
            image (int): Index of the image.

        Returns:
            tuple[Tensor, Tensor]: Logits, has shape (N, P), and true masks, 0 or 1, has shape (M, P), in
            float32, because mmdet's costs need it.
        """
        assert self._heads is not None  # the heads check this when they are built
        head, content = self._heads[layer], widened(state.content[image])
        # In float32, so that a seed gives the same points in every precision.
        points = torch.rand(head.settings.match_points, 2, dtype=torch.float32, device=content.device)
        with torch.autocast(content.device.type, enabled=False):
            found = head.at_points([widened(level[image]) for level in self._features], content,
                                   points.to(content.dtype))
        return found.float(), self._true_at(image, points).to(found.device)

    def _true_at(self, image: int, points: Tensor) -> Tensor:
        """True masks in the pixels that contain the points; the padding belongs to no object."""
        masks = self._true[image]
        rows, columns = masks.shape[-2:]
        height, width = self._targets.metas[image].get('batch_input_shape', (rows, columns))
        x, y = (points.cpu() * torch.tensor([width, height])).long().unbind(-1)
        inside = (x < columns) & (y < rows)
        return (masks[:, y.clamp(max=rows - 1), x.clamp(max=columns - 1)] * inside).float()

    @cached_property
    def _true(self) -> List[Tensor]:
        """True masks of each image, has shape (M_i, H, W), on the CPU; polygons are drawn only once."""
        return [torch.from_numpy(masks.to_ndarray()) for masks in true_masks(self._targets)]

    def losses(self) -> Dict[str, Tensor]:
        """The losses of all states.

        Returns:
            dict[str, Tensor]: Scalars. In a batch without objects they are 0 and still depend on every
            parameter, as training on several workers needs it.
        """
        losses = {}
        for head, states in self._states.items():
            if not any(len(state.pairs) for state in states):
                found = [dict.fromkeys(head.loss_names, _nothing(head, state.content)) for state in states]
            else:
                found = head.losses(self._features, _matched(states), self._targets)
            losses.update({state.name + key: value * state.weight
                           for state, values in zip(states, found) for key, value in values.items()})
        return losses


@dataclass(frozen=True)
class LayerMasks:
    """The masks of a decoder layer for the criterion, see :meth:`MaskSupervision.of`."""

    supervision: MaskSupervision
    layer: int
    weight: float

    def at_points(self, state: Any, image: int) -> Tuple[Tensor, Tensor]:
        """See :meth:`MaskSupervision.at_points`."""
        return self.supervision.at_points(self.layer, state, image)

    def add(self, name: str, state: Any, pairs: Pairs) -> None:
        """See :meth:`MaskSupervision.add`."""
        self.supervision.add(self.layer, name, state, pairs, weight=self.weight)


def _matched(states: Sequence[_State]) -> Matched:
    def joined(part):
        return torch.cat([getattr(state.pairs, part) for state in states])

    at = [(state.pairs.image, state.pairs.query) for state in states]
    return Matched(
        joined('image'), joined('target'), joined('label'),
        box=torch.cat([widened(state.box.detach()[where]) for state, where in zip(states, at)]),
        content=torch.cat([state.content[where] for state, where in zip(states, at)]),
        normalisers=[state.pairs.normaliser for state in states])


def _nothing(head: Any, content: Tensor) -> Tensor:
    """0, with the content and every parameter of the head in its graph."""
    return sum((p.sum() for p in head.parameters() if p.requires_grad), content.sum()) * 0
