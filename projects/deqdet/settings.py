"""Checks of settings: limits of arguments, by pydantic, and unknown keys in configs.

A limit is an annotation of the argument: ``rag: Annotated[int, Field(ge=1)] = 2``. :func:`checked` checks the
arguments of a constructor; :func:`check_arguments` checks those of other objects.
"""

import inspect
import math
from difflib import get_close_matches
from functools import cache, lru_cache, wraps
from typing import (
    Annotated,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Literal,
    Mapping,
    Optional,
    Set,
    Tuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import pydantic
from pydantic import Field

from .errors import UsageError

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
#: A fraction.
Share = Annotated[float, Field(ge=0, le=1)]
#: A size, such as that of noise.
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Flag = Annotated[bool, Field()]
#: Steps of a path.
Steps = Annotated[Union[List[int], Tuple[int, ...], Set[int]],
                  Field(description='a list of steps, whole numbers')]

_STRICT = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)


@lru_cache(256)  # making one takes longer than using it
def _validator(kind: Any) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(kind, config=_STRICT)


def check(value: Any, kind: Any, *, name: str, why: str = '', argument: bool = False) -> None:
    """Check the type and limits of a setting. True and False do not count as numbers.

    Args:
        value (Any): The setting.
        kind (type): An annotation with limits.
        name (str): Name of the setting in the message.
        why (str): Reason at the end of the message.
        argument (bool): The setting is an argument of a call, not of a config.

    Raises:
        UsageError: With the name, the value and the limits.
    """
    try:
        _validator(kind).validate_python(value)
    except pydantic.ValidationError as error:
        reason = f'; {why}' if why else ''
        raise UsageError(f'{name}={value!r} must be {_described(kind)}{reason}',
                         'bad-argument' if argument else 'bad-setting') from error


def check_arguments(of: Callable, values: Mapping[str, Any], *, prefix: str) -> None:
    """Check arguments against the limits in the annotations of a function or class.

    Args:
        of (Callable): The function, or the class whose constructor has the annotations.
        values (Mapping[str, object]): Arguments by name; those without limits are not checked.
        prefix (str): Text before the name of the argument in the message.

    Raises:
        UsageError: Names the first wrong argument.
    """
    for name, kind in _limits(of).items():
        if name in values:
            check(values[name], kind, name=prefix + name)


def checked(init: Callable) -> Callable:
    """Decorator of a constructor: checks its arguments against the limits of their annotations."""
    names = list(inspect.signature(init).parameters)[1:]

    @wraps(init)
    def build(self, *args, **kwargs):
        check_arguments(init, {**dict(zip(names, args)), **kwargs}, prefix=f'{type(self).__name__}: ')
        init(self, *args, **kwargs)

    return build


@cache
def _limits(of: Callable) -> Dict[str, Any]:
    """The arguments of a function or class that have limits, and their annotations."""
    known = inspect.signature(of).parameters
    hints = get_type_hints(of.__init__ if inspect.isclass(of) else of, include_extras=True)
    return {name: hint for name, hint in hints.items()
            if name in known and any(hasattr(part, '__metadata__') for part in (hint, *get_args(hint)))}


def _described(kind: Any) -> str:
    """Limits in words."""
    options = [option for option in get_args(kind) if option is not type(None)]
    if get_origin(kind) is Literal:
        return 'one of ' + ', '.join(map(str, options))
    if get_origin(kind) is Union:
        return f'None or {_described(options[0])}'
    field = kind.__metadata__[-1]
    if field.description:
        return field.description
    bound = {key: getattr(limit, key) for limit in field.metadata
             for key in ('ge', 'gt', 'le', 'lt') if getattr(limit, key, None) is not None}
    most = f' to below {bound["lt"]:g}' if 'lt' in bound else f' to {bound["le"]:g}' if 'le' in bound else ''
    limits = ''
    if 'gt' in bound:
        limits = f' above {bound["gt"]:g}'
    elif 'ge' in bound:
        limits = f' from {bound["ge"]:g}{most}' if most else f', {bound["ge"]:g} or more'
    return {int: 'a whole number', float: 'a number', bool: 'True or False'}[kind.__origin__] + limits


def check_keys(settings: Optional[dict], known: Iterable[str], *, name: str,
               others: Iterable[str] = ()) -> None:
    """Check that each key of a part of a config is known, so that a typo does not silently keep a default.

    Args:
        settings (dict, optional): The part.
        known (Iterable[str]): Keys that are read.
        name (str): Name of the part in the message.
        others (Iterable[str]): Keys of other models: allowed, without effect.

    Raises:
        UsageError: Names the most similar key.
    """
    if settings is None:
        return
    if not isinstance(settings, dict):
        raise UsageError(f'{name}={settings!r} must be a dict; it may have {", ".join(known)}', 'bad-setting')
    known = list(known)
    for key in settings:
        if key in known or key in others:
            continue
        close = get_close_matches(str(key), [*known, *others], n=1)
        meant = f'did you mean {close[0]}? It' if close else 'it'
        raise UsageError(f'{name} has no setting {key!r}: {meant} has {", ".join(known)}', 'unknown-setting')


def check_whole(value: Any, *, name: str, least: int, most: Optional[int] = None, why: str = '') -> None:
    """Check that a setting is a whole number from ``least`` to ``most``, see :func:`check`."""
    check(value, Annotated[int, Field(ge=least, le=most)], name=name, why=why)


def is_whole(value: Any) -> bool:
    """Whether a setting is a whole number; not True or False."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a setting is a number; not True or False."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a setting is a number, not infinite, NaN, True or False."""
    return is_number(value) and math.isfinite(value)


def settings_below(part: Any, name: str = '') -> Iterator[Tuple[str, Any]]:
    """Every setting below a part of a config by its dotted key; a part comes before its own settings."""
    items = part.items() if hasattr(part, 'items') else ()  # mmengine's Config is no dict
    for key, value in enumerate(part) if isinstance(part, (list, tuple)) else items:
        inner = f'{name}.{key}' if name else str(key)
        yield inner, value
        yield from settings_below(value, inner)
