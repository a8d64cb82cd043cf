"""When is a state solved: each image by its own last step."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Protocol, Tuple, TypeVar

import torch
from torch import Tensor

State = TypeVar('State', bound=Any)

#: ``(before, after) -> length`` of the step of each image, has shape (B,).
Distance = Callable[[State, State], Tensor]


class RestrictedStep(Protocol[State]):
    """One application of the implicit layer that can leave images out."""

    def __call__(self, state: State) -> State:
        """Apply the layer."""

    def restrict(self, images: Tensor) -> 'RestrictedStep[State]':
        """The same for the states of some images, given by their indices, has shape (K,)."""


@dataclass(frozen=True)
class Tolerance:
    """An image is solved when none of its parts moved further than allowed in the last step.

    Attributes:
        parts (Mapping[str, tuple]): For each part ``(distance, limit)``.
    """

    parts: Mapping[str, Tuple[Distance, float]]

    @property
    def distances(self) -> Dict[str, Distance]:
        """What to measure, by part."""
        return {part: distance for part, (distance, _) in self.parts.items()}

    def reached(self, lengths: Mapping[str, Tensor]) -> Tensor:
        """Whether each image is solved, bool, has shape (B,).

        Args:
            lengths (Mapping[str, Tensor]): What :attr:`distances` gave for the last step.
        """
        return torch.stack([lengths[part] <= limit for part, (_, limit) in self.parts.items()]).all(dim=0)
