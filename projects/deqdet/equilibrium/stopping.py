"""When is a state solved: each image by its own last step."""

from dataclasses import dataclass
from typing import Callable, Mapping, Protocol, Tuple, TypeVar

import torch
from torch import Tensor

State = TypeVar('State')


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
        parts (Mapping[str, tuple]): For each part ``(distance, limit)``, where ``distance(before, after)``
            gives the length of the step of each image, has shape (B,).
    """

    parts: Mapping[str, Tuple[Callable[[State, State], Tensor], float]]

    def reached(self, before: State, after: State) -> Tensor:
        """Whether each image is solved, bool, has shape (B,)."""
        within = [distance(before, after) <= limit for distance, limit in self.parts.values()]
        return torch.stack(within).all(dim=0)
