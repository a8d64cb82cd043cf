"""Perturbation of the solving path.

With disturbances given by the detector this is the refinement-aware perturbation (RAP): noise enters
before a refinement, which projects it (supplement, section B and Algorithms 1, 2).
"""

from typing import Callable, NamedTuple, Sequence, TypeVar

import torch
from torch import Tensor

State = TypeVar('State')


class Disturbance(NamedTuple):
    """One kind of noise.

    Attributes:
        probability (float): How often it strikes, 0 to 1.
        apply (Callable): ``state -> state`` with the noise added.
    """

    probability: float
    apply: Callable


def draw_coin() -> Tensor:
    """A number uniform in [0, 1), drawn in the form that seed-exact runs rely on."""
    return torch.rand(1)


class Perturbation:
    """Disturbs a state, each kind of noise with its own probability.

    One coin a kind and a call, drawn also when the probability is 0: seed-exact runs rely on the
    order of draws, which is coin, noise if it says yes, next coin. All images of a batch share the coin.

    Args:
        disturbances (Sequence[Disturbance]): Applied in this order.
        coin (Callable): Draws a coin, see :func:`draw_coin`.
    """

    def __init__(self, disturbances: Sequence[Disturbance],
                 coin: Callable[[], Tensor] = draw_coin) -> None:
        self.disturbances = tuple(disturbances)
        self.coin = coin

    def with_coins(self, coins: Tensor) -> 'Perturbation':
        """The same disturbances deciding by given coins, for paths that must strike at the same steps.

        Args:
            coins (Tensor): Uniform in [0, 1), one for each disturbance of each call, in order.
        """
        drawn = iter(coins.flatten().tolist())
        return Perturbation(self.disturbances, coin=lambda: next(drawn))

    def __call__(self, state: State) -> State:
        """Return the state with those disturbances whose coin said yes."""
        for disturbance in self.disturbances:
            if self.coin() < disturbance.probability:
                state = disturbance.apply(state)
        return state


def relative_noise(value: Tensor, intensity: float) -> Tensor:
    """Mix vectors with Gaussian noise of their own norm: (1 - s) v + s ||v|| n, n ~ N(0, I).

    Args:
        value (Tensor): Vectors, has shape (..., C); the norm is over the last dimension, per vector.
        intensity (float): s, 0 to 1.

    Returns:
        Tensor: Noisy vectors, has shape (..., C).
    """
    value = value.contiguous()  # randn_like fills in memory order
    noise = torch.randn_like(value) * torch.linalg.vector_norm(value, dim=-1, keepdim=True)
    return (1 - intensity) * value + intensity * noise


def additive_noise(value: Tensor, intensity: float) -> Tensor:
    """Add Gaussian noise of a fixed size: v + s n, n ~ N(0, I).

    Args:
        value (Tensor): Values, of any shape.
        intensity (float): s, in the unit of ``value``.

    Returns:
        Tensor: Noisy values, has the same shape.
    """
    value = value.contiguous()  # randn_like fills in memory order
    return value + intensity * torch.randn_like(value)
