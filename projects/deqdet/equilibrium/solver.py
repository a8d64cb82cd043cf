"""Fixed-point solvers: apply ``step`` until the state no longer moves.

Every solver has the signature ``solver(step, state, num_steps, ...) -> SolvingPath``.
"""

from dataclasses import dataclass, field
from typing import Callable, Collection, Dict, Generic, Optional, TypeVar

State = TypeVar('State')


@dataclass(frozen=True)
class SolvingPath(Generic[State]):
    """What a solver returns.

    Attributes:
        final (State): The state after the last step.
        num_steps (int): Number of steps taken.
        kept (dict[int, State]): States that were asked for, by step, counted from 1.
    """

    final: State
    num_steps: int
    kept: Dict[int, State] = field(default_factory=dict)


def iterate(step: Callable[[State], State],
            state: State,
            num_steps: int,
            *,
            perturb: Optional[Callable[[State], State]] = None,
            keep: Collection[int] = (),
            observe: Optional[Callable[[State, State, bool], None]] = None) -> SolvingPath[State]:
    """Plain fixed-point iteration y <- f(y) (supplement, Algorithm 2, "naive fix-point solving").

    The caller decides about gradients: run it under ``torch.no_grad()`` to solve without a graph.

    Args:
        step (Callable): One application of the implicit layer.
        state (State): Starting point y_0, step 0 of the path.
        num_steps (int): Number of applications, 0 or more.
        perturb (Callable, optional): Disturbs the state before each step, so that ``step`` projects
            the noise (supplement, section B).
        keep (Collection[int]): Steps, counted from 1, whose states are returned in ``kept``.
        observe (Callable, optional): Called after each step with the state before it, the one after it
            and whether it was perturbed, see :class:`PathObserver`.

    Returns:
        SolvingPath: The last state and those to keep.
    """
    kept = {}
    for t in range(1, num_steps + 1):
        start = state if perturb is None else perturb(state)
        after = step(start)
        if observe is not None:
            observe(state, after, start is not state)
        state = after
        if t in keep:
            kept[t] = state
    return SolvingPath(final=state, num_steps=num_steps, kept=kept)
