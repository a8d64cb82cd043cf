"""Explains errors of other packages by the part of the config or the file that caused them."""

import errno
import re
from pickle import UnpicklingError
from typing import Optional

from ..checkpoints.check import untrusted
from ..compat.building import file_of, part_of
from ..errors import UsageError, first_line

#: If this environment variable is set, errors keep their traceback.
TRACEBACK = 'DEQDET_TRACEBACK'


def explain(error: Exception) -> Optional[UsageError]:
    """An error that the user can fix, in one line.

    Args:
        error (Exception): Raised inside :func:`parts_named_in_errors`.

    Returns:
        UsageError: None for an error in the code.
    """
    if isinstance(error, UnpicklingError):
        return untrusted(error, f'file {file_of(error)}')
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UsageError(
            f'{error.filename or "a file"} cannot be written ({error.strerror}): free some space, then run '
            'the command again; with --resume a training continues from its last complete checkpoint',
            'output-failed')
    kind, settings = part_of(error)
    if kind is None:
        return None
    kind = getattr(kind, '__name__', kind)
    message = str(error.args[0] if error.args else error)
    if isinstance(error, KeyError) and 'is not in the' in message and 'registry' in message:
        return UsageError(unknown_type(kind), 'unknown-type')
    argument = re.search(r"unexpected keyword argument '(.*)'", message)
    if isinstance(error, TypeError) and argument and (argument[1] in settings or not settings):
        return UsageError(f'the config has an unknown argument: {message}; look for a typo, or see the '
                          'arguments of the class', 'unknown-setting')
    return UsageError(
        f'the config does not work: {kind} cannot be built ({type(error).__name__}: {first_line(error)}): '
        f'correct its arguments, or set {TRACEBACK}=1 to see where the error comes from', 'bad-config')


def unknown_type(kind: str) -> str:
    """The message for a type of a config that is not registered."""
    return (f'the config names an unknown type, {kind!r}: look for a typo, or add the module that registers '
            'it to custom_imports')
