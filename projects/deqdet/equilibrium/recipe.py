"""Training of a deep equilibrium: which states are supervised (supplement, Algorithm 2)."""

from dataclasses import dataclass
from typing import Any, Callable, Generic, Iterator, Sequence, TypeVar

from .solver import SolvingPath
from .unroll import unroll

# Any state with `detach`; to unroll several positions as one batch it also needs `join` and `split`.
State = TypeVar('State', bound=Any)

START, AFTER_START, PATH = 'start', 'after start', 'path'


@dataclass(frozen=True)
class Supervised(Generic[State]):
    """A state that gets a loss.

    Attributes:
        stage (str): ``START`` (y_0), ``AFTER_START`` (y_0 refined ``step`` times with gradient) or ``PATH``
            (step ``step`` of the solving path, then refined with gradient).
        step (int): 0 for ``START``, else counted from 1.
        state (State): The state with its graph.
    """

    stage: str
    step: int
    state: State


@dataclass(frozen=True)
class Recipe:
    """Which states are supervised.

    Attributes:
        positions (Sequence[int]): Omega: steps of the solving path, counted from 1, sorted.
        unrolled (int): Refinements with gradient at each position.
        after_start (int): Refinements with gradient after y_0, each supervised.
        start (bool): Supervise y_0 and the refinements after it.
        positions_per_batch (int): Number of positions that are unrolled as one batch.
    """

    positions: Sequence[int]
    unrolled: int = 2
    after_start: int = 2
    start: bool = True
    positions_per_batch: int = 1

    def states(self, state: State, *, initialise: Callable[[State], State], refine: Callable[[State], State],
               solve: Callable[[State], SolvingPath[State]]) -> Iterator[Supervised[State]]:
        """The supervised states in the order of the published runs; each is computed on demand.

        ::

            state -> initialise -> y_0 ------------------------------------> START
                     y_0 -> refine -> refine -> ... ------------------------> AFTER_START 1, 2, ...
                     y_0 detached -> solve, at each t of Omega -> refine ... -> PATH t

        Args:
            state (State): Input of the initialisation.
            initialise (Callable): g, with gradient.
            refine (Callable): f, with gradient.
            solve (Callable): The solving path from y_0 without gradient; keeps the states at ``positions``.
        """
        start = initialise(state)
        if self.start:
            yield Supervised(START, 0, start)
            state = start
            for step in range(1, self.after_start + 1):
                state = refine(state)
                yield Supervised(AFTER_START, step, state)

        kept = solve(start.detach()).kept
        for first in range(0, len(self.positions), self.positions_per_batch):
            together = self.positions[first:first + self.positions_per_batch]
            if len(together) == 1:
                unrolled = [unroll(refine, kept[together[0]], self.unrolled)]
            else:
                joined = type(start).join([kept[t] for t in together])
                unrolled = unroll(refine, joined, self.unrolled).split(len(together))
            for t, state in zip(together, unrolled):
                yield Supervised(PATH, t, state)
