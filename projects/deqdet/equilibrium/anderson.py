"""Anderson acceleration (supplement, Table 5; Walker and Ni, 2011)."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Generic, List, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from .solver import Solver, register

# A state with `pack() -> [part, ...]`, has shape (B, D_i) each, and `unpack(parts) -> state`.
State = TypeVar('State', bound=Any)


@register('anderson')
@dataclass(frozen=True)
class Anderson(Solver):
    """Fixed-point iteration with Anderson acceleration.

    Attributes:
        memory (int): m, number of pairs to mix, at least 1 (plain iteration).
        damping (float): Weight of y_i, from 0 (off) to below 1.
        regularisation (float): Added to the diagonal of the normal equations, relative to its mean.
        weight_bound (float): Bound of sum_i |a_i|. Above it the mix would be far from all earlier states, so
            the last output of the layer is taken instead. Without a bound, a long path may leave the basin
            of a layer that contracts only in some directions; a bound slows the acceleration of a linear
            contraction.
    """

    memory: Annotated[int, Field(ge=1)] = 4
    damping: Annotated[float, Field(ge=0, lt=1)] = 0.0
    regularisation: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-8
    weight_bound: Annotated[float, Field(ge=1)] = math.inf

    def rule(self) -> 'Mixture':
        """A new mixture for one path."""
        return Mixture(self)


class Mixture(Generic[State]):
    """The rule of Anderson acceleration: the mix of the last states with the smallest residual is next.

    For the last ``memory`` pairs (y_i, f(y_i)) of each image, the weights a_i minimise
    ||sum_i a_i (f(y_i) - y_i)||; they sum to one. The next state is
    sum_i a_i ((1 - damping) f(y_i) + damping y_i). All parts of the state share the weights. The residual of
    each part is divided by the length of its first residual.

    Args:
        settings (Anderson): How to mix.
    """

    def __init__(self, settings: Anderson) -> None:
        self.settings = settings
        self._asked: List[List[Tensor]] = []
        self._answered: List[List[Tensor]] = []
        self._units: List[Tensor] = []

    def __call__(self, asked: State, answered: State) -> State:
        """The next state, see :class:`Rule`."""
        self._asked = [*self._asked, list(asked.pack())][-self.settings.memory:]
        self._answered = [*self._answered, list(answered.pack())][-self.settings.memory:]
        if not self._units:
            self._units = [
                (answer - ask).norm(dim=-1, keepdim=True).clamp(min=torch.finfo(ask.dtype).tiny)
                for ask, answer in zip(self._asked[0], self._answered[0])]
        damping = self.settings.damping
        if len(self._asked) == 1 and not damping:
            return answered
        weights = self.weights()
        mixed = []
        for ask, answer in zip(zip(*self._asked), zip(*self._answered)):
            pairs = [(1 - damping) * after + damping * before for before, after in zip(ask, answer)]
            mixed.append(torch.einsum('bm,mbd->bd', weights.to(pairs[0].dtype), torch.stack(pairs)))
        return answered.unpack(mixed)

    def weights(self) -> Tensor:
        """a_i of each image, float64, has shape (B, m); 1 for the last pair if they cannot be computed."""
        residuals = []
        for ask, answer, unit in zip(zip(*self._asked), zip(*self._answered), self._units):
            difference = torch.stack([after - before for before, after in zip(ask, answer)], dim=1)
            residuals.append((difference / unit[:, None]).double())
        residual = torch.cat(residuals, dim=-1)  # (B, m, D)
        gram = residual @ residual.transpose(1, 2)
        count = gram.shape[1]
        identity = torch.eye(count, dtype=gram.dtype, device=gram.device)
        mean = gram.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None]
        gram = gram + self.settings.regularisation * mean * identity
        ones = gram.new_ones(len(gram), count, 1)
        solution, failed = torch.linalg.solve_ex(gram, ones)
        weights = solution[..., 0] / solution[..., 0].sum(-1, keepdim=True)
        usable = (failed == 0) & torch.isfinite(weights).all(-1)
        usable &= weights.abs().sum(-1) <= self.settings.weight_bound
        newest = identity[-1].expand_as(weights)
        return torch.where(usable[:, None], weights, newest)

    def select(self, images: Tensor) -> None:
        """Keep only these images, see :class:`Rule`."""
        self._asked = [[part[images] for part in pair] for pair in self._asked]
        self._answered = [[part[images] for part in pair] for pair in self._answered]
        self._units = [unit[images] for unit in self._units]
