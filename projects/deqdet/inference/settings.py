"""Settings of the equilibrium for one call, from Python or from the words of a command."""

from typing import Any, Dict, Iterable, Optional, Sequence, Union

from mmengine.model import BaseModel

from ..equilibrium import Solver
from ..errors import UsageError
from ..model.heads import PredictionSettings
from ..model.heads.prediction import PredictsWithSettings
from ..model.heads.solving import build_solver, build_tolerance
from ..settings import Count, check, is_number

# Pixels of the network's input per relative change of the content of 1. It is the ratio of the limits that
# were measured on the digits: 0.1 with 0.25 px and 0.2 with 0.5 px.
_PIXELS = 2.5

Tolerances = Union[float, Dict[str, float]]


def parse_solver(word: Union[str, dict], *, name: str) -> Solver:
    """Build a solver from its config, or from ``NAME`` or ``NAME:KEY=VALUE,...``.

    Args:
        word (str or dict): For example ``anderson:memory=2,damping=0.1``.
        name (str): Name of the option in messages.

    Raises:
        UsageError: If the solver or an argument is unknown.
    """
    if isinstance(word, str):
        kind, _, options = word.partition(':')
        word = dict(type=kind, **_parse_numbers(filter(None, options.split(',')), name=name))
    return build_solver(word, name=name)


def parse_tolerance(words: Sequence[str], *, name: str) -> Dict[str, float]:
    """Limits by part, from a number or from ``PART=LIMIT`` words.

    Args:
        words (Sequence[str]): For example ``content=0.2`` and ``position=0.5``, or only ``0.2``.
        name (str): Name of the option in messages.

    Raises:
        UsageError: As :func:`tolerance_config`, or for other words.
    """
    if len(words) > 1 or '=' in words[0]:
        return tolerance_config(_parse_numbers(words, name=name), name=name)
    try:
        limit = float(words[0])
    except ValueError as error:
        raise UsageError(f'{name} {words[0]}: must be a number, or content=NUMBER position=PIXELS',
                         'bad-argument') from error
    return tolerance_config(limit, name=name)


def tolerance_config(tol: Tolerances, *, name: str = 'tol') -> Dict[str, float]:
    """Limits by part.

    Args:
        tol (float or dict): Limits for ``content``, relative, and ``position``, in pixels of the network's
            input. A number sets the content limit, and 2.5 times as many pixels.
        name (str): Name of the option in messages.

    Raises:
        UsageError: If a part is unknown, or a limit is not a number of at least 0.
    """
    limits: Any = tol
    if is_number(tol):
        limits = dict(content=tol, position=_PIXELS * tol)  # type: ignore[operator]
    if not isinstance(limits, dict) or not limits or not all(map(is_number, limits.values())):
        raise UsageError(f'{name}={tol!r} must be a number, or a dict of limits, for example '
                         'dict(content=0.1, position=0.25)', 'bad-argument')
    build_tolerance(limits, name=name)
    return dict(limits)


def settings_of(model: BaseModel, *, steps: Optional[int] = None, tol: Optional[Tolerances] = None,
                solver: Union[str, dict, None] = None) -> Optional[PredictionSettings]:
    """The settings of a call. None keeps the setting of the config.

    Args:
        model (BaseModel): The detector.
        steps (int, optional): Maximum number of refinements before the last one, as in ``refinement_steps``.
        tol (float or dict, optional): See :func:`tolerance_config`.
        solver (str or dict, optional): See :func:`parse_solver`.

    Returns:
        PredictionSettings: None for a decoder without settings, such as mmdet's.

    Raises:
        UsageError: If one of them is invalid, or the decoder solves no equilibrium.
    """
    changes: Dict[str, Any] = {}
    head: Any = getattr(model, 'roi_head', None)
    if steps is not None:
        check(steps, Count, name='steps', argument=True)
        changes.update(refinements=steps + 1)
    if tol is not None:
        changes.update(tolerance=tolerance_config(tol))
    if solver is not None:
        changes.update(solver=parse_solver(solver, name='solver'))
    if changes and not hasattr(head, 'fixed_point_problem'):
        told = ' and '.join(name for name, value in dict(steps=steps, tol=tol, solver=solver).items()
                            if value is not None)
        raise UsageError(f'{told}: the decoder of this config, {type(head or model).__name__}, solves no '
                         f'equilibrium: remove {told}', 'unsupported-decoder')
    if not isinstance(head, PredictsWithSettings):
        return None
    return head.prediction_with(**changes) if changes else head.prediction


def _parse_numbers(words: Iterable[str], *, name: str) -> Dict[str, float]:
    """Numbers by key, from ``KEY=NUMBER`` words."""
    numbers: Dict[str, float] = {}
    for word in words:
        key, _, text = word.partition('=')
        try:
            numbers[key] = int(text) if text.isdecimal() else float(text)
        except ValueError as error:
            raise UsageError(f'{name}: {word} must have the form KEY=NUMBER', 'bad-argument') from error
    return numbers
