"""Fixed-point solvers: apply ``step`` until the state no longer moves.

One loop, :func:`iterate`, applies the layer, perturbs, measures and stops. A :class:`Solver` only chooses the
next state.
"""

from dataclasses import dataclass, field
from typing import (
    Any,
    Callable,
    ClassVar,
    Collection,
    Dict,
    Generic,
    List,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    Type,
    TypeVar,
)

import torch
from torch import Tensor

from .batch import put, take
from .stopping import Distance, Tolerance

State = TypeVar('State', bound=Any)


@dataclass(frozen=True)
class SolvingPath(Generic[State]):
    """Result of a solver.

    Attributes:
        final (State): The state after the last step.
        num_steps (int): Number of steps; the largest number over the images.
        kept (dict[int, State]): The requested states by step, counted from 1.
        residuals (dict[str, Tensor]): Length ||f(y) - y|| of each step, for each measured part, has shape
            (num_steps, B); NaN after an image is solved.
        steps (tuple[int], optional): Steps of each image. None without a tolerance: each took all steps.
        reasons (tuple[str], optional): Why each image stopped: ``'tolerance'`` or ``'steps'``.
    """

    final: State
    num_steps: int
    kept: Dict[int, State] = field(default_factory=dict)
    residuals: Dict[str, Tensor] = field(default_factory=dict)
    steps: Optional[Tuple[int, ...]] = None
    reasons: Optional[Tuple[str, ...]] = None

    def followed_by(self, later: 'SolvingPath[State]') -> 'SolvingPath[State]':
        """Join this path and a later one that starts at its end.

        Args:
            later (SolvingPath): With residuals of the same parts, or without residuals if it has no steps.
        """
        both = [path for path in (self, later) if path.residuals]
        return SolvingPath(
            final=later.final,
            num_steps=self.num_steps + later.num_steps,
            kept={**self.kept, **{self.num_steps + t: state for t, state in later.kept.items()}},
            residuals={part: torch.cat([path.residuals[part] for path in both])
                       for part in (both[0].residuals if both else ())},
            steps=(None if self.steps is None or later.steps is None
                   else tuple(map(sum, zip(self.steps, later.steps)))),
            reasons=later.reasons)


class Rule(Protocol[State]):
    """Chooses the next state of a path."""

    def __call__(self, asked: State, answered: State) -> State:
        """The next state, from y_t (``asked``), the input of the layer, and its output f(y_t)."""

    def select(self, images: Tensor) -> None:
        """Keep only the images with these indices, has shape (K,)."""


class Solver:
    """A solver and its settings. The base class takes the output of the layer as the next state.

    A subclass is a frozen dataclass, or a ``torch.nn.Module`` with learned weights
    (``class Learned(Solver, nn.Module)``). The arguments of its constructor are its arguments in a config; an
    annotation such as ``Annotated[int, Field(ge=1)]`` gives their limits.

    Attributes:
        kind (str): Name in configs, set by :func:`register`.
    """

    kind: ClassVar[str]

    def rule(self) -> Optional['Rule']:
        """A new rule for one path; None takes the output of the layer as the next state."""
        return None

    def __call__(self, step: Callable[[State], State], state: State, num_steps: int,
                 **options: Any) -> SolvingPath[State]:
        """Solve; the arguments are those of :func:`iterate`."""
        return iterate(step, state, num_steps, rule=self.rule(), **options)


SolverClass = TypeVar('SolverClass', bound=Type[Solver])
#: Solvers by their names in configs.
SOLVERS: Dict[str, Type[Solver]] = {}


def register(kind: str) -> Callable[[SolverClass], SolverClass]:
    """Decorator of a solver: configs name it by ``kind``."""

    def add(solver: SolverClass) -> SolverClass:
        solver.kind = kind
        SOLVERS[kind] = solver
        return solver

    return add


@register('iterate')
@dataclass(frozen=True)
class Iterate(Solver):
    """Plain fixed-point iteration."""


def iterate(step: Callable[[State], State],
            state: State,
            num_steps: int,
            *,
            perturb: Optional[Callable[[State], State]] = None,
            keep: Collection[int] = (),
            observe: Optional[Callable[[State, State, bool], None]] = None,
            measure: Optional[Mapping[str, Distance]] = None,
            tolerance: Optional[Tolerance] = None,
            rule: Optional[Rule[State]] = None) -> SolvingPath[State]:
    """Plain fixed-point iteration y <- f(y) (supplement, Algorithm 2, "naive fix-point solving").

    The caller controls gradients: run it under ``torch.no_grad()`` to solve without a graph.

    Args:
        step (Callable): One application of the implicit layer; with a tolerance a :class:`RestrictedStep`.
        state (State): Start y_0, step 0 of the path.
        num_steps (int): Number of applications, 0 or more; with a tolerance the maximum.
        perturb (Callable, optional): Adds noise to the state before each step, so that ``step`` projects
            the noise (supplement, section B).
        keep (Collection[int]): Steps, counted from 1, whose states are returned in ``kept``.
        observe (Callable, optional): Called after each step with the states before and after it, and whether
            it was perturbed, see :class:`PathObserver`.
        measure (Mapping[str, Callable], optional): Lengths to record in ``residuals``, each
            ``(asked, answered) -> length`` of shape (B,). The distances of the tolerance are always recorded.
        tolerance (Tolerance, optional): Ends the path of each image when its own step is short. A solved
            image is not computed any further.
        rule (Rule, optional): Chooses the next state, see :class:`Solver`. By default it is the output of
            the layer.
    """
    distances = {**(tolerance.distances if tolerance else {}), **(measure or {})}
    going = None if tolerance is None else _Going(state, num_steps)
    kept, rows, t = {}, [], 0
    for t in range(1, num_steps + 1):
        start = state if perturb is None else perturb(state)
        answer = step(start)
        following = answer if rule is None else rule(start, answer)
        if observe is not None:
            observe(state, following, start is not state)
        lengths = {part: distance(state, answer) for part, distance in distances.items()}
        state = following
        if distances:
            rows.append(lengths if going is None else going.spread(lengths))
        if t in keep:
            kept[t] = state if going is None else going.whole(state)
        if going is None or tolerance is None:
            continue
        solved = tolerance.reached(lengths)
        if solved.any():
            rest = going.settle(t, solved, state)
            state = take(state, rest)
            if not len(rest):
                break
            restricted: Any = step  # a RestrictedStep
            step = restricted.restrict(rest)
            if rule is not None:
                rule.select(rest)
    return SolvingPath(
        final=state if going is None else going.whole(state),
        num_steps=t,
        kept=kept,
        residuals={part: torch.stack([row[part] for row in rows]) for part in distances} if rows else {},
        steps=None if going is None else tuple(going.steps),
        reasons=None if going is None else tuple(going.reasons))


class _Going(Generic[State]):
    """The unsolved images of a batch, and the final states of the solved ones."""

    def __init__(self, state: State, num_steps: int) -> None:
        count = len(state[0])
        self.steps: List[int] = [num_steps] * count
        self.reasons: List[str] = ['steps'] * count
        self._images = torch.arange(count, device=state[0].device)
        self._whole: Optional[State] = None  # None until the first image is solved

    def whole(self, state: State) -> State:
        """The states of all images, given those of the unsolved ones."""
        return state if self._whole is None else put(self._whole, self._images, state)

    def spread(self, lengths: Mapping[str, Tensor]) -> Dict[str, Tensor]:
        """Lengths of all images, has shape (B,) each; NaN for solved images."""
        if self._whole is None:
            return dict(lengths)
        return {part: length.new_full((len(self.steps), ), torch.nan).index_copy(0, self._images, length)
                for part, length in lengths.items()}

    def settle(self, t: int, solved: Tensor, state: State) -> Tensor:
        """Store the states of newly solved images; return the indices of the others in ``state``."""
        self._whole = self.whole(state)
        for image in self._images[solved].tolist():
            self.steps[image], self.reasons[image] = t, 'tolerance'
        rest = (~solved).nonzero().flatten()
        self._images = self._images[rest]
        return rest
