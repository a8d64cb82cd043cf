"""Parse solvers and tolerances from command-line words."""

from typing import Dict, Iterable, Optional, Sequence, Union

from ..equilibrium import Solver, Tolerance
from ..errors import UsageError
from ..model.heads.solving import build_solver, build_tolerance


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
        word = dict(type=kind, **parse_numbers(filter(None, options.split(',')), name=name))
    return build_solver(word, name=name)


def parse_tolerance(words: Sequence[str], *, name: str) -> Optional[Tolerance]:
    """Build a tolerance from ``PART=LIMIT`` words.

    Args:
        words (Sequence[str]): For example ``content=0.2`` and ``position=0.5``.
        name (str): Name of the option in messages.

    Raises:
        UsageError: If a part is unknown, or a limit is not a number of at least 0.
    """
    return build_tolerance(parse_numbers(words, name=name), name=name)


def parse_numbers(words: Iterable[str], *, name: str) -> Dict[str, Union[int, float]]:
    """Numbers by key, from ``KEY=NUMBER`` words; ``name`` is the name of the option in messages."""
    return {key: _number(value, f'{name}: {key}={value}')
            for key, value in (word.partition('=')[::2] for word in words)}


def _number(text, where) -> Union[int, float]:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise UsageError(f'{where} must have the form KEY=NUMBER', 'bad-argument')
