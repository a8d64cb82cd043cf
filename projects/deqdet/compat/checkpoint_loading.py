"""Loads checkpoints of mmengine with torch's safe loading, and only with it.

torch >= 2.6 loads only tensors and plain containers by default. The checkpoints of mmengine also hold the log
(``HistoryBuffer``, with numpy arrays and scalars). mmengine 0.10.7 does not handle this and fails with
"Weights only load failed". Its fork onedl-mmengine allow-lists them, but falls back to unsafe loading, which
may run any code, for files that hold something else.
"""

import os
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any, Iterable, Iterator, List, Set

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# Part of the names of tensors in the released checkpoints that no computation uses. The name comes from the
# heads of Sparse R-CNN, which do use them, as local mask heads do.
UNUSED_TENSORS = 'instance_interactive_conv'
_LAYER_WITHOUT_USE = 'sampling_n_mixing'

# Switches of torch.load. The first one overrides the arguments of the call.
FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
FORCE_UNSAFE = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
_TRUE = ('1', 'y', 'yes', 'true')

# Types of the log's arrays and scalars.
_LOG_DTYPES = (np.float64, np.float32, np.int64, np.int32, np.bool_)


@contextmanager
def safe_checkpoint_loading() -> Iterator[None]:
    """Inside, mmengine's checkpoints load, and no ``torch.load`` falls back to unsafe loading.

    It uses torch's own allow-list and switch, and restores both at the end. Nothing changes if the user has
    set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD (and so trusts every file).
    """
    trusted = os.environ.get(FORCE_UNSAFE, '').lower() in _TRUE
    if trusted:
        yield
        return
    before = {name: os.environ.get(name) for name in (FORCE_SAFE, FORCE_UNSAFE)}
    os.environ[FORCE_SAFE] = '1'
    try:
        with torch.serialization.safe_globals(_globals_of_a_log()):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def may_be_unused(name: str) -> bool:
    """Whether a tensor is unused if the model has none of this name, see ``UNUSED_TENSORS``."""
    return UNUSED_TENSORS in name and 'mask_head' not in name.split('.')


def unused_tensors(names: Iterable[str]) -> Set[str]:
    """Names in a state dict of tensors that no computation uses, see ``UNUSED_TENSORS``.

    They belong to decoder layers that mix what they sample instead.
    """
    names = list(names)
    layers = {name.split(_LAYER_WITHOUT_USE)[0] for name in names if f'.{_LAYER_WITHOUT_USE}.' in name}
    return {name for name in names if UNUSED_TENSORS in name and name.split(UNUSED_TENSORS)[0] in layers}


def trust_checkpoints() -> None:
    """Load everything that a file holds, until the end of :func:`safe_checkpoint_loading`.

    This can run any code in the file, so call it only if the user asked for it.
    """
    os.environ.pop(FORCE_SAFE, None)
    os.environ[FORCE_UNSAFE] = '1'


def _globals_of_a_log() -> List[Any]:
    """Types and functions in an mmengine checkpoint, beside tensors.

    Files may come from numpy 1, with its internals in ``numpy.core``, or from numpy 2 (``numpy._core``).
    """
    reconstruct = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    allowed = [HistoryBuffer, _named(_statistics_method, 'builtins', 'getattr'), np.ndarray,
               np.dtype]
    for core in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed += [_named(reconstruct, core, '_reconstruct'), _named(scalar, core, 'scalar')]
    return allowed + [type(np.dtype(kind)) for kind in _LOG_DTYPES]


def _named(function, module, name):
    """The function under the name that a file uses; torch compares names, not objects."""

    def named(*args):
        return function(*args)

    named.__module__, named.__name__, named.__qualname__ = module, name, name
    return named


def _statistics_method(owner, name):
    """Replaces ``getattr`` in a file: a log contains ``getattr(HistoryBuffer, 'mean')``.

    The real ``getattr`` would give access to every attribute of every object.
    """
    if owner is not HistoryBuffer or name.startswith('_') or name not in vars(HistoryBuffer):
        raise UnpicklingError(f'getattr({owner!r}, {name!r}) does not belong in a checkpoint')
    return getattr(owner, name)
