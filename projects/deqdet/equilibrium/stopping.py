"""When an image is solved: its own last step decides."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Protocol, Tuple, TypeVar

import torch
from torch import Tensor

State = TypeVar('State', bound=Any)

#: ``(before, after) -> length`` of the step of each image, has shape (B,).
Distance = Callable[[State, State], Tensor]


class RestrictedStep(Protocol[State]):
    """One application of the implicit layer that can be restricted to some images."""

    def __call__(self, state: State) -> State:
        """Apply the layer."""

    def restrict(self, images: Tensor) -> 'RestrictedStep[State]':
        """The same step for the images with these indices, has shape (K,)."""


@dataclass(frozen=True)
class Tolerance:
    """An image is solved when no part of its state moved further than its limit in the last step.

    Attributes:
        parts (Mapping[str, tuple]): ``(distance, limit)`` of each part.
    """

    parts: Mapping[str, Tuple[Distance, float]]

    @property
    def distances(self) -> Dict[str, Distance]:
        """The distance of each part."""
        return {part: distance for part, (distance, _) in self.parts.items()}

    def reached(self, lengths: Mapping[str, Tensor]) -> Tensor:
        """Whether each image is solved, bool, has shape (B,), from the last step's :attr:`distances`."""
        return torch.stack([lengths[part] <= limit for part, (_, limit) in self.parts.items()]).all(dim=0)
