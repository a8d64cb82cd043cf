"""The states that a batch goes through, from one solving of its equilibrium."""

import itertools
import time
from dataclasses import dataclass
from typing import Callable, Collection, Dict, Generic, Mapping, Optional, TypeVar

import torch

from ..equilibrium import SolvingPath, iterate
from ..equilibrium.stopping import Distance

State = TypeVar('State')


@dataclass(frozen=True)
class Trajectory(Generic[State]):
    """What a batch predicts after each number of refinements.

    Attributes:
        states (dict[int, State]): By refinements after the initialisation layer: 0 is y_0 itself. State k
            is the layer's answer to the solver's k-th question, what prediction with k - 1 steps gives
            after its final refinement.
        seconds (dict[int, float]): Time from y_0 to that state.
        path (SolvingPath): What the solver returned, with the residuals that were measured.
    """

    states: Dict[int, State]
    seconds: Dict[int, float]
    path: SolvingPath[State]


@torch.no_grad()
def follow(start: State,
           step: Callable[[State], State],
           refinements: Collection[int],
           *,
           solver: Callable[..., SolvingPath[State]] = iterate,
           measure: Optional[Mapping[str, Distance]] = None) -> Trajectory[State]:
    """Solve once, as far as the largest number of refinements, and keep the states on the way.

    Args:
        start (State): y_0.
        step (Callable): One refinement.
        refinements (Collection[int]): Numbers of refinements whose states are kept, 0 or more.
        solver (Callable): A solver, with its own arguments bound, see ``build_solver``.
        measure (Mapping[str, Callable], optional): Residuals to record, see :func:`iterate`.
    """
    states, seconds = {}, {}
    numbers, begin = itertools.count(), time.perf_counter()

    def note(state):
        number = next(numbers)
        if number in refinements:
            if state[0].is_cuda:
                torch.cuda.synchronize()
            states[number], seconds[number] = state, time.perf_counter() - begin
        return state

    note(start)
    path = solver(lambda state: note(step(state)), start, max(refinements), measure=measure)
    return Trajectory(states=states, seconds=seconds, path=path)
