"""Settings in configs that nobody reads, or that are no numbers of the kind that is needed."""

import math
from difflib import get_close_matches
from typing import Any, Iterable, Optional

from .errors import UsageError


def check_keys(settings: Optional[dict], known: Iterable[str], *, name: str,
               others: Iterable[str] = ()) -> None:
    """Every key of a part of a config means something.

    A slip of the pen would be passed over, and the default taken without a word.

    Args:
        settings (dict, optional): The part.
        known (Iterable[str]): Keys that are read.
        name (str): Names the part in the message.
        others (Iterable[str]): Keys that are legal, of other models, and without effect.

    Raises:
        UsageError: Naming the nearest key.
    """
    if settings is None:
        return
    if not isinstance(settings, dict):
        raise UsageError(f'{name}={settings!r} must be a dict; it may have {", ".join(known)}')
    known = list(known)
    for key in settings:
        if key in known or key in others:
            continue
        close = get_close_matches(str(key), [*known, *others], n=1)
        meant = f', but {close[0]}' if close else ''
        raise UsageError(f'{name} has no setting {key!r}{meant}: it has {", ".join(known)}')


def check_whole(value: Any, *, name: str, least: int, most: Optional[int] = None, why: str = '') -> None:
    """A setting is a whole number from ``least`` to ``most``.

    Args:
        value (Any): The setting.
        name (str): Names it in the message.
        least (int): The smallest that works.
        most (int, optional): The largest that works.
        why (str): Put behind the message.

    Raises:
        UsageError: If not.
    """
    if is_whole(value) and least <= value and (most is None or value <= most):
        return
    limits = f'from {least} to {most}' if most is not None else f'at least {least}' if least else '0 or more'
    raise UsageError(f'{name}={value!r} must be {limits}, a whole number{"; " + why if why else ""}')


def is_whole(value: Any) -> bool:
    """Whether a setting is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a setting is a number that is neither infinite nor NaN; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
