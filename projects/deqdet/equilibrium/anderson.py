"""Anderson acceleration (supplement, Table 5; Walker and Ni, 2011)."""

import math
from typing import Callable, Generic, List, Sequence, TypeVar

import torch
from torch import Tensor

from .solver import SolvingPath, iterate

State = TypeVar('State')


class Mixture(Generic[State]):
    """Where Anderson acceleration goes next: to the mix of the last states with the smallest residual.

    Of the last ``memory`` pairs (y_i, f(y_i)) the weights a_i, which sum to one, minimise
    ||sum_i a_i (f(y_i) - y_i)||, for each image by itself; the next state is
    sum_i a_i ((1 - damping) f(y_i) + damping y_i). Parts of the state share the weights, but
    their residuals enter in units of their own, the length of the part's first residual.

    Args:
        pack (Callable): ``state -> [part, ...]``, has shape (B, D_i) each.
        unpack (Callable): ``(parts, answered) -> state``, the inverse; ``answered`` is the last answer.
        memory (int): m, pairs to mix, at least 1, which is plain iteration.
        damping (float): Share of y_i, 0 (none) to below 1.
        regularisation (float): Added to the diagonal of the normal equations, relative to its mean.
        weight_bound (float): Where the sizes of the weights sum to more, the mix would lie far beyond what
            the layer was asked for, and the last answer is taken instead. Unbounded, long paths on a layer
            that contracts in some directions only may leave its basin; a bound slows the acceleration of a
            linear contraction.
    """

    def __init__(self, pack: Callable[[State], Sequence[Tensor]],
                 unpack: Callable[[Sequence[Tensor], State], State], *, memory: int, damping: float,
                 regularisation: float, weight_bound: float) -> None:
        self.pack = pack
        self.unpack = unpack
        self.memory = memory
        self.damping = damping
        self.regularisation = regularisation
        self.weight_bound = weight_bound
        self._asked: List[List[Tensor]] = []
        self._answered: List[List[Tensor]] = []
        self._units: List[Tensor] = []

    def __call__(self, asked: State, answered: State) -> State:
        """The next state to ask for, see :class:`Rule`."""
        self._asked = [*self._asked, list(self.pack(asked))][-self.memory:]
        self._answered = [*self._answered, list(self.pack(answered))][-self.memory:]
        if not self._units:
            self._units = [
                (answer - ask).norm(dim=-1, keepdim=True).clamp(min=torch.finfo(ask.dtype).tiny)
                for ask, answer in zip(self._asked[0], self._answered[0])]
        if len(self._asked) == 1 and not self.damping:
            return answered
        weights = self.weights()
        mixed = []
        for ask, answer in zip(zip(*self._asked), zip(*self._answered)):
            pairs = [(1 - self.damping) * after + self.damping * before for before, after in zip(ask, answer)]
            mixed.append(torch.einsum('bm,mbd->bd', weights.to(pairs[0].dtype), torch.stack(pairs)))
        return self.unpack(mixed, answered)

    def weights(self) -> Tensor:
        """a_i of each image, float64, has shape (B, m). Where they cannot be had, the last pair's is 1."""
        residuals = []
        for ask, answer, unit in zip(zip(*self._asked), zip(*self._answered), self._units):
            difference = torch.stack([after - before for before, after in zip(ask, answer)], dim=1)
            residuals.append((difference / unit[:, None]).double())
        residual = torch.cat(residuals, dim=-1)  # (B, m, D)
        gram = residual @ residual.transpose(1, 2)
        count = gram.shape[1]
        identity = torch.eye(count, dtype=gram.dtype, device=gram.device)
        mean = gram.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None]
        gram = gram + self.regularisation * mean * identity
        ones = gram.new_ones(len(gram), count, 1)
        solution, failed = torch.linalg.solve_ex(gram, ones)
        weights = solution[..., 0] / solution[..., 0].sum(-1, keepdim=True)
        usable = (failed == 0) & torch.isfinite(weights).all(-1)
        usable &= weights.abs().sum(-1) <= self.weight_bound
        newest = identity[-1].expand_as(weights)
        return torch.where(usable[:, None], weights, newest)

    def select(self, images: Tensor) -> None:
        """Forget all images but these, see :class:`Rule`."""
        self._asked = [[part[images] for part in pair] for pair in self._asked]
        self._answered = [[part[images] for part in pair] for pair in self._answered]
        self._units = [unit[images] for unit in self._units]


def anderson(step: Callable[[State], State],
             state: State,
             num_steps: int,
             *,
             pack: Callable[[State], Sequence[Tensor]],
             unpack: Callable[[Sequence[Tensor], State], State],
             memory: int = 4,
             damping: float = 0.0,
             regularisation: float = 1e-8,
             weight_bound: float = math.inf,
             **options) -> SolvingPath[State]:
    """Fixed-point iteration with Anderson acceleration.

    Args:
        step, state, num_steps: As for :func:`iterate`.
        pack, unpack, memory, damping, regularisation, weight_bound: See :class:`Mixture`.
        **options: ``perturb``, ``keep``, ``observe``, ``measure`` and ``tolerance`` of :func:`iterate`.

    Returns:
        SolvingPath: The last mix and the states to keep.
    """
    rule = Mixture(pack, unpack, memory=memory, damping=damping, regularisation=regularisation,
                   weight_bound=weight_bound)
    return iterate(step, state, num_steps, rule=rule, **options)
