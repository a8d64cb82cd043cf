"""Mask losses of all supervised states of a batch."""

from collections import defaultdict
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from mmengine.model import ModuleList
from torch import Tensor

from ...dtypes import widened
from ..targets import Pairs, Targets
from .head import MaskHead, Matched


class _State(NamedTuple):
    name: str
    weight: float
    content: Tensor
    box: Tensor
    pairs: Pairs


class MaskSupervision:
    """Collects the matched queries of the supervised states; their mask losses are computed at the end.

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
