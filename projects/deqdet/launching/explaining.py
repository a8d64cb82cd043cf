"""What other packages raise of a wrong config or file, in words of the config."""

import errno
import traceback
from pickle import UnpicklingError
from typing import Optional

from mmengine.model import BaseDataPreprocessor
from mmengine.runner import Runner

from ..checkpoints.check import untrusted
from ..errors import UsageError

#: The environment variable with which errors keep their traceback.
TRACEBACK = 'DEQDET_TRACEBACK'


def explain(error: Exception) -> Optional[UsageError]:
    """An error that the user can mend, in one line.

    Args:
        error (Exception): With its traceback.

    Returns:
        UsageError: None of an error of the code.
    """
    if isinstance(error, UnpicklingError):
        return untrusted(error, f'file {_file_of(error)}')
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UsageError(
            f'{error.filename or "a file"} could not be written ({error.strerror}): make room, then start '
            'again; a training goes on from its last complete checkpoint with --resume')
    return _slip_of_pipeline(error) or _slip_of_config(error)


def place_of(error: Exception) -> str:
    """The line of a config file that an error came from, in words; empty if it came from elsewhere."""
    if isinstance(error, SyntaxError):
        return ''  # says so itself
    last = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == '<module>'][-1:]
    return f'line {last[0].lineno}: ' if last and last[0].filename.endswith('.py') else ''


def _file_of(error) -> str:
    """The file that mmengine or torch was loading."""
    names = [frame.f_locals.get('filename') for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((name for name in names if isinstance(name, str)), 'to load')


def _slip_of_pipeline(error):
    """What to say of samples without an image."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not isinstance(error, KeyError) or not frames or str(error) not in ("'inputs'", "'data_samples'"):
        return None
    if not isinstance(frames[-1].f_locals.get('self'), BaseDataPreprocessor):
        return None
    return UsageError('the pipeline of the dataset gives samples without an image or without annotations: it '
                      'needs LoadImageFromFile at its beginning and PackDetInputs at its end')


def _slip_of_config(error):
    """What to say of an error from building a part of the config; None of an error from elsewhere."""
    message = str(error.args[0] if error.args else error)
    kind, inside = None, set()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name, variables = frame.f_code.co_name, frame.f_locals
        # mmengine looks for the class of an optimiser itself, and goes on without one.
        optimizer = getattr(variables.get('self'), 'optimizer_cfg', None)
        if name == 'build_from_cfg' or isinstance(optimizer, dict) and 'type' in optimizer:
            kind = optimizer['type'] if optimizer else variables.get('obj_type') or 'a part of it'
            inside = set()
        elif _of_runner(frame):
            kind, inside = _PARTS.get(name, name.replace('build_', '')), set()
        else:
            inside.add(name)
    if kind is None:
        return None
    kind = getattr(kind, '__name__', kind)
    if isinstance(error, (TypeError, KeyError)):
        if 'is not in the' in message and 'registry' in message or message == 'None is not a callable object':
            return UsageError(
                f'the config names a type that there is not, {kind!r}: look for a slip of the pen, or have '
                'the module that registers it in custom_imports')
        # Raised by the call of a constructor, not by what it did.
        if 'unexpected keyword argument' in message and inside <= {'__init__', 'wrapper'}:
            return UsageError(
                f'the config has an argument that there is not: {message}; see the class for its arguments, '
                'or look for a slip of the pen')
    return UsageError(
        f'the config does not work: {kind} cannot be built ({type(error).__name__}: {_first_line(error)}); '
        f'look at the arguments it has there, or set {TRACEBACK}=1 to see where this comes from')


# Parts of a config by the methods of the Runner that read them.
_PARTS = dict(from_cfg='the run', __init__='the run', set_randomness='randomness', setup_env='env_cfg',
              build_dataloader='a dataloader', scale_lr='auto_scale_lr',
              _init_model_weights='init_cfg of the model')


def _of_runner(frame) -> bool:
    """Whether a method of the Runner is at work that makes something of the config."""
    owner = frame.f_locals.get('self', frame.f_locals.get('cls'))
    kind = owner if isinstance(owner, type) else type(owner)
    name = frame.f_code.co_name
    return (issubclass(kind, Runner) or name == 'build_dataloader') and (
        name in _PARTS or name.startswith('build_'))


def _first_line(error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else 'without a word'
