"""Observation of the solving path: how far each step moves, and which steps were perturbed."""

from dataclasses import dataclass, field
from typing import Callable, Dict, Generic, List, Mapping, NamedTuple, TypeVar

import torch
from torch import Tensor

State = TypeVar('State')


class Residual(NamedTuple):
    """Length ||f(y) - y|| of one step of each image, mean over its queries.

    Attributes:
        absolute (Tensor): In the unit of the part, has shape (B,).
        relative (Tensor): Relative to the size of the part, has shape (B,).
    """

    absolute: Tensor
    relative: Tensor


@dataclass(frozen=True)
class PathStatistics:
    """Residuals along a path, means over the images.

    Attributes:
        absolute, relative (dict[str, list[float]]): By part, one value per step; NaN for a perturbed step,
            because noise dominates its length.
        perturbed (list[bool]): Whether noise was added before the step.
        supervised (dict[int, float]): Loss at each supervised step of the path.
    """

    absolute: Dict[str, List[float]]
    relative: Dict[str, List[float]]
    perturbed: List[bool]
    supervised: Dict[int, float] = field(default_factory=dict)

    @property
    def perturbed_share(self) -> float:
        """Share of perturbed steps; 0 for a path without steps."""
        return sum(self.perturbed) / max(len(self.perturbed), 1)


class PathObserver(Generic[State]):
    """Records a path of :func:`iterate` as means over the images. Values stay on the device until read.

    Args:
        parts (Mapping[str, Callable]): ``(before, after) -> Residual`` for each part of the state.
    """

    def __init__(self, parts: Mapping[str, Callable[[State, State], Residual]]) -> None:
        self.parts = dict(parts)
        self._perturbed: List[bool] = []
        self._residuals: Dict[str, List[Residual]] = {name: [] for name in parts}
        self._losses: Dict[int, Tensor] = {}

    def __call__(self, before: State, after: State, perturbed: bool) -> None:
        """Record one step from ``before``, to which noise was added afterwards if ``perturbed``."""
        self._perturbed.append(perturbed)
        for name, residual in self.parts.items():
            self._residuals[name].append(Residual(*(length.mean() for length in residual(before, after))))

    def supervise(self, step: int, loss: Tensor) -> None:
        """Record the loss, a scalar, of the state that is unrolled from a step of the path."""
        self._losses[step] = loss.detach()

    def statistics(self) -> PathStatistics:
        """Statistics of the whole path, with one copy from the device."""
        flat = [value for steps in self._residuals.values() for step in steps for value in step]
        flat += self._losses.values()
        values = iter(torch.stack(flat).tolist() if flat else [])
        found = {kind: {name: [] for name in self.parts} for kind in Residual._fields}
        for name in self.parts:
            for noisy in self._perturbed:
                for kind in Residual._fields:
                    value = next(values)
                    found[kind][name].append(float('nan') if noisy else value)
        return PathStatistics(
            perturbed=list(self._perturbed), supervised=dict(zip(self._losses, values)), **found)
