"""Perturbation of the solving path.

With the detector's disturbances this is the refinement-aware perturbation (RAP): noise is added before a
refinement, which projects it (supplement, section B and Algorithms 1, 2).
"""

from typing import Callable, NamedTuple, Sequence, TypeVar

import torch
from torch import Tensor

State = TypeVar('State')


class Disturbance(NamedTuple):
    """One kind of noise.

    Attributes:
        probability (float): Probability that it is applied, 0 to 1.
        apply (Callable): ``state -> state``, adds the noise.
    """

    probability: float
    apply: Callable


def draw_coin() -> Tensor:
    """A uniform number in [0, 1). Seed-exact runs depend on this form of drawing it."""
    return torch.rand(1)


class Perturbation:
    """Adds each kind of noise to a state with its own probability.

    Each call draws one coin per kind of noise, even if the probability is 0. The order of draws is coin,
    noise (if the coin is below the probability), next coin; seed-exact runs depend on it. All images of a
    batch share the coin.

    Args:
        disturbances (Sequence[Disturbance]): Applied in this order.
        coin (Callable): Draws a coin, see :func:`draw_coin`.
    """

    def __init__(self, disturbances: Sequence[Disturbance],
                 coin: Callable[[], Tensor] = draw_coin) -> None:
        self.disturbances = tuple(disturbances)
        self.coin = coin

    def with_coins(self, coins: Tensor) -> 'Perturbation':
        """The same disturbances with given coins, so that several paths are perturbed at the same steps.

        Args:
            coins (Tensor): Uniform in [0, 1), one for each disturbance of each call, in order.
        """
        drawn = iter(coins.flatten().tolist())
        return Perturbation(self.disturbances, coin=lambda: next(drawn))

    def __call__(self, state: State) -> State:
        """Apply each disturbance whose coin is below its probability."""
        for disturbance in self.disturbances:
            if self.coin() < disturbance.probability:
                state = disturbance.apply(state)
        return state


def relative_noise(value: Tensor, intensity: float) -> Tensor:
    """Mix vectors with Gaussian noise scaled by their norm: (1 - s) v + s ||v|| n, n ~ N(0, I).

    Args:
        value (Tensor): Vectors, has shape (..., C); the norm is over the last dimension.
        intensity (float): s, 0 to 1.
    """
    value = value.contiguous()  # randn_like fills in memory order
    noise = torch.randn_like(value) * torch.linalg.vector_norm(value, dim=-1, keepdim=True)
    return (1 - intensity) * value + intensity * noise


def additive_noise(value: Tensor, intensity: float) -> Tensor:
    """Add Gaussian noise of a fixed size: v + s n, n ~ N(0, I).

    Args:
        value (Tensor): Values, of any shape.
        intensity (float): s, in the unit of ``value``.
    """
    value = value.contiguous()  # randn_like fills in memory order
    return value + intensity * torch.randn_like(value)
