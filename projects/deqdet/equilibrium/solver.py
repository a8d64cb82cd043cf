"""Fixed-point solvers: apply ``step`` until the state no longer moves.

Every solver has the signature of :func:`iterate`, and may have arguments of its own.
"""

from dataclasses import dataclass, field
from typing import Callable, Collection, Dict, Generic, Optional, Tuple, TypeVar

import torch
from torch import Tensor

from .batch import put, take
from .stopping import Tolerance

State = TypeVar('State')


@dataclass(frozen=True)
class SolvingPath(Generic[State]):
    """What a solver returns.

    Attributes:
        final (State): The state after the last step.
        num_steps (int): Number of steps taken, by the image that took most.
        kept (dict[int, State]): States that were asked for, by step, counted from 1.
        steps (tuple[int], optional): Steps of each image. None without a tolerance: all took all.
        reasons (tuple[str], optional): Why each image stopped: ``'tolerance'`` or ``'steps'``.
    """

    final: State
    num_steps: int
    kept: Dict[int, State] = field(default_factory=dict)
    steps: Optional[Tuple[int, ...]] = None
    reasons: Optional[Tuple[str, ...]] = None


def iterate(step: Callable[[State], State],
            state: State,
            num_steps: int,
            *,
            perturb: Optional[Callable[[State], State]] = None,
            keep: Collection[int] = (),
            observe: Optional[Callable[[State, State, bool], None]] = None,
            tolerance: Optional[Tolerance] = None) -> SolvingPath[State]:
    """Plain fixed-point iteration y <- f(y) (supplement, Algorithm 2, "naive fix-point solving").

    The caller decides about gradients: run it under ``torch.no_grad()`` to solve without a graph.

    Args:
        step (Callable): One application of the implicit layer; with a tolerance a
            :class:`RestrictedStep`.
        state (State): Starting point y_0, step 0 of the path.
        num_steps (int): Number of applications, 0 or more; with a tolerance at most so many.
        perturb (Callable, optional): Disturbs the state before each step, so that ``step`` projects
            the noise (supplement, section B).
        keep (Collection[int]): Steps, counted from 1, whose states are returned in ``kept``.
        observe (Callable, optional): Called after each step with the state before it, the one after it
            and whether it was perturbed, see :class:`PathObserver`.
        tolerance (Tolerance, optional): Ends the path of each image when its own step is short. An image
            that is solved is not computed any further.

    Returns:
        SolvingPath: The last state and those to keep.
    """
    return follow(Plain(), step, state, num_steps, perturb=perturb, keep=keep, observe=observe,
                  tolerance=tolerance)


class Plain:
    """Where plain iteration goes next: to what the layer answered."""

    def __call__(self, asked: State, answered: State) -> State:
        """The next state to ask for.

        Args:
            asked (State): y_t, where the layer was applied.
            answered (State): f(y_t).
        """
        return answered

    def select(self, images: Tensor) -> None:
        """Forget all images but these."""


def follow(rule: Callable[[State, State], State],
           step: Callable[[State], State],
           state: State,
           num_steps: int,
           *,
           perturb: Optional[Callable[[State], State]] = None,
           keep: Collection[int] = (),
           observe: Optional[Callable[[State, State, bool], None]] = None,
           tolerance: Optional[Tolerance] = None) -> SolvingPath[State]:
    """The loop that all solvers share; arguments as for :func:`iterate`.

    Args:
        rule (Callable): ``(asked, answered) -> next``, with a method ``select`` like :class:`Plain`.
    """
    kept = {}
    if tolerance is None:
        for t in range(1, num_steps + 1):
            state = _advance(rule, step, state, perturb, observe)[0]
            if t in keep:
                kept[t] = state
        return SolvingPath(final=state, num_steps=num_steps, kept=kept)

    count = len(state[0])
    active = torch.arange(count, device=state[0].device)
    whole, steps, t = state, [0] * count, 0
    reasons = ['steps'] * count
    while t < num_steps and len(active):
        t += 1
        state, solved = _advance(rule, step, state, perturb, observe, tolerance)
        whole = put(whole, active, state)
        if t in keep:
            kept[t] = whole
        for image, done in zip(active.tolist(), solved.tolist()):
            steps[image] = t
            if done:
                reasons[image] = 'tolerance'
        if solved.any():
            going = (~solved).nonzero().flatten()
            active, state, step = active[going], take(state, going), step.restrict(going)
            rule.select(going)
    return SolvingPath(
        final=whole, num_steps=t, kept=kept, steps=tuple(steps), reasons=tuple(reasons))


def _advance(rule, step, state, perturb, observe, tolerance=None):
    """One step: the next state, and whether each image is solved."""
    start = state if perturb is None else perturb(state)
    answer = step(start)
    following = rule(start, answer)
    if observe is not None:
        observe(state, following, start is not state)
    return following, None if tolerance is None else tolerance.reached(state, answer)
