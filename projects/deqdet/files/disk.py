"""A folder that cannot be written, or a disk too full for checkpoints, is found before training."""

import os
import os.path as osp
import shutil
import tempfile
from typing import Union, cast

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from ..errors import UsageError

# The one that is kept, the one that is written, and one for logs and the best model.
_CHECKPOINTS = 3


def check_work_dir(path: str) -> None:
    """A folder can be made and written.

    Args:
        path (str): The folder; it is made if it is not there.

    Raises:
        UsageError: If it cannot.
    """
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b'0')
    except OSError as error:
        raise UsageError(f'folder {osp.abspath(path)} cannot be written ({error.strerror}): choose another '
                         'with --work-dir (or out_dir of the checkpoint hook), or mend its permissions'
                         ) from error


def check_free_space(folder: str, size: int) -> None:
    """A disk has room for three checkpoints.

    Args:
        folder (str): Where checkpoints are saved; it is made if it is not there.
        size (int): Bytes of a checkpoint.

    Raises:
        UsageError: If there is less, or if the folder cannot be written.
    """
    check_work_dir(folder)
    free, needed = shutil.disk_usage(folder).free, _CHECKPOINTS * size
    if free < needed:
        raise UsageError(
            f'{folder}: {free / 1e9:.3f} GB are free, but {_CHECKPOINTS} checkpoints need '
            f'{needed / 1e9:.3f} GB: make room, choose a folder on another disk with --work-dir, or keep '
            'fewer with --cfg-options default_hooks.checkpoint.max_keep_ckpts=1')


def checkpoint_bytes(model: nn.Module, optim_wrapper: Union[OptimWrapper, OptimWrapperDict], *,
                     averaged: bool) -> int:
    """Size of a checkpoint, before the first update has made the optimiser's state.

    Args:
        model (nn.Module): The model, wrapped or not.
        optim_wrapper (OptimWrapper or OptimWrapperDict): Optimisers of the training.
        averaged (bool): Whether a moving average of the model (EMA) is saved as well.

    Returns:
        int: Bytes of parameters, buffers and the state of the optimisers.
    """
    while is_model_wrapper(model):
        model = cast(nn.Module, model.module)
    # What the model has under several names is written once, see CompleteCheckpointHook.
    weights = sum({value.data_ptr(): value.nbytes for value in model.state_dict().values()}.values())
    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) \
        else [optim_wrapper]
    state = sum(
        _values_per_parameter(group) * parameter.nbytes
        for wrapper in wrappers for group in wrapper.optimizer.param_groups
        for parameter in group['params'] if parameter.requires_grad)
    return weights * (2 if averaged else 1) + state


def _values_per_parameter(group) -> int:
    """Of the Adam family two (amsgrad three), of SGD one with momentum."""
    if 'betas' in group:
        return 3 if group.get('amsgrad') else 2
    return 1 if group.get('momentum') else 0
