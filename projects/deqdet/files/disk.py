"""Finds before training that a folder cannot be written, or that a disk is too full for checkpoints."""

import os
import os.path as osp
import shutil
import tempfile
from pathlib import Path
from typing import Union, cast

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from ..errors import UsageError

# The kept checkpoint, the one being written, and one for logs and the best model.
_CHECKPOINTS = 3


def check_work_dir(path: Union[str, Path], *, option: str = '--work-dir (or out_dir of the checkpoint hook)'
                   ) -> None:
    """Check that a folder can be created and written.

    Args:
        path (str or Path): The folder; it is created if missing.
        option (str): What chooses the folder, for the message.

    Raises:
        UsageError: If it cannot.
    """
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b'0')
    except OSError as error:
        raise UsageError(f'folder {osp.abspath(path)} cannot be written ({error.strerror}): choose another '
                         f'with {option}, or fix its permissions', 'output-failed') from error


def check_free_space(folder: str, size: int) -> None:
    """Check that a disk has room for three checkpoints.

    Args:
        folder (str): Folder of the checkpoints; it is created if missing.
        size (int): Bytes of a checkpoint.

    Raises:
        UsageError: If there is less room, or if the folder cannot be written.
    """
    check_work_dir(folder)
    free, needed = shutil.disk_usage(folder).free, _CHECKPOINTS * size
    if free < needed:
        raise UsageError(
            f'{folder}: {free / 1e9:.3f} GB are free, but {_CHECKPOINTS} checkpoints need '
            f'{needed / 1e9:.3f} GB: free some space, choose another disk with --work-dir, or keep '
            'fewer with --cfg-options default_hooks.checkpoint.max_keep_ckpts=1', 'output-failed')


def checkpoint_bytes(model: nn.Module, optim_wrapper: Union[OptimWrapper, OptimWrapperDict], *,
                     averaged: bool) -> int:
    """Size of a checkpoint, known before the first update creates the optimiser's state.

    Args:
        model (nn.Module): The model, wrapped or not.
        optim_wrapper (OptimWrapper or OptimWrapperDict): Optimisers of the training.
        averaged (bool): Whether a moving average of the model (EMA) is also saved.

    Returns:
        int: Bytes of parameters, buffers and the state of the optimisers.
    """
    while is_model_wrapper(model):
        model = cast(nn.Module, model.module)
    # Weights that the model has under several names are written once, see CompleteCheckpointHook.
    weights = sum({value.data_ptr(): value.nbytes for value in model.state_dict().values()}.values())
    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) \
        else [optim_wrapper]
    state = sum(
        _values_per_parameter(group) * parameter.nbytes
        for wrapper in wrappers for group in wrapper.optimizer.param_groups
        for parameter in group['params'] if parameter.requires_grad)
    return weights * (2 if averaged else 1) + state


def _values_per_parameter(group) -> int:
    """Two for the Adam family (three with amsgrad), one for SGD with momentum."""
    if 'betas' in group:
        return 3 if group.get('amsgrad') else 2
    return 1 if group.get('momentum') else 0
