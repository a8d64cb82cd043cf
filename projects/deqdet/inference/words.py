"""Solvers and tolerances from the words of a command line."""

from typing import Dict, Iterable, Optional, Sequence, Union

from ..equilibrium import Solver, Tolerance
from ..errors import UsageError
from ..model.heads.solving import build_solver, build_tolerance


def parse_solver(word: Union[str, dict], *, name: str) -> Solver:
    """A solver from its config, or from ``NAME`` or ``NAME:KEY=VALUE,...``.

    Args:
        word (str or dict): For example ``anderson:memory=2,damping=0.1``.
        name (str): Names the option in messages.

    Raises:
        UsageError: If there is no such solver or argument.
    """
    if isinstance(word, str):
        kind, _, options = word.partition(':')
        word = dict(type=kind, **parse_numbers(filter(None, options.split(',')), name=name))
    return build_solver(word, name=name)


def parse_tolerance(words: Sequence[str], *, name: str) -> Optional[Tolerance]:
    """A tolerance from ``PART=LIMIT`` words.

    Args:
        words (Sequence[str]): For example ``content=0.2`` and ``position=0.5``.
        name (str): Names the option in messages.

    Raises:
        UsageError: If there is no such part, or a limit is no number, 0 or more.
    """
    return build_tolerance(parse_numbers(words, name=name), name=name)


def parse_numbers(words: Iterable[str], *, name: str) -> Dict[str, Union[int, float]]:
    """Numbers by key, from ``KEY=NUMBER`` words; ``name`` names the option in messages."""
    return {key: _number(value, f'{name}: {key}={value}')
            for key, value in (word.partition('=')[::2] for word in words)}


def _number(text, where) -> Union[int, float]:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise UsageError(f'{where} is not of the form KEY=NUMBER')
