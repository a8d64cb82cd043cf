"""The states of a batch along one path to its equilibrium."""

import itertools
from dataclasses import dataclass
from typing import Callable, Collection, Dict, Generic, Mapping, Optional, TypeVar

import torch

from ..equilibrium import SolvingPath, iterate
from ..equilibrium.stopping import Distance
from .timing import now

State = TypeVar('State')


@dataclass(frozen=True)
class Trajectory(Generic[State]):
    """The predictions for a batch after each number of refinements.

    Attributes:
        states (dict[int, State]): By number of refinements after the initialisation layer; 0 is y_0. State k
            is the layer's output for the k-th input from the solver: the result of a prediction with k - 1
            steps and the final refinement.
        seconds (dict[int, float]): Time from y_0 to each state.
        path (SolvingPath): The result of the solver, with the measured residuals.
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
    """Solve once, up to the largest number of refinements, and keep the states on the path.

    Args:
        start (State): y_0.
        step (Callable): One refinement.
        refinements (Collection[int]): Numbers of refinements whose states are kept, 0 or more.
        solver (Callable): A solver with its settings, see ``build_solver``.
        measure (Mapping[str, Callable], optional): Residuals to record, see :func:`iterate`.
    """
    states, seconds = {}, {}
    numbers, begin = itertools.count(), now()

    def note(state):
        number = next(numbers)
        if number in refinements:
            states[number], seconds[number] = state, now() - begin
        return state

    note(start)
    path = solver(lambda state: note(step(state)), start, max(refinements), measure=measure)
    return Trajectory(states=states, seconds=seconds, path=path)
