"""A checkpoint that does not belong to the model is refused in one line.

mmengine logs what does not fit as a warning of a hundred lines and goes on with random weights.
"""

import os.path as osp
import pickle
import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from torch import Tensor

from ..compat.checkpoint_loading import UNUSED_TENSORS
from ..errors import UsageError
from .checks import some_of

_CLASSIFIER = re.compile(r'(^|[._])(fc_cls|conv_cls|retina_cls|cls|atss_cls)\.(weight|bias)$')


class UntrustedFileError(UsageError):
    """A checkpoint holds objects whose loading could run code."""


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file fit those of a model.

    Attributes:
        total (int): Number of the model's tensors.
        missing (list[str]): Tensors of the model that are not in the file.
        reshaped (dict[str, tuple]): Shape in the file and shape in the model, where they differ.
        extra (list[str]): Tensors of the file that the model does not have.
    """

    total: int
    missing: List[str]
    reshaped: Dict[str, Tuple[tuple, tuple]]
    extra: List[str]

    @property
    def fitting(self) -> int:
        """Number of the model's tensors that the file has in their shape."""
        return self.total - len(self.missing) - len(self.reshaped)


def compare(file: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Fit:
    """Names and shapes of a file against those of a model.

    Args:
        file (Mapping[str, Tensor]): State dict of the file; a prefix ``module.`` is ignored.
        model (Mapping[str, Tensor]): State dict of the model.

    Returns:
        Fit: Where they differ. Counters of batch norm may be missing, as mmengine has it.
    """
    file = {re.sub(r'^module\.', '', name): value for name, value in file.items()
            if isinstance(value, Tensor)}
    wanted = {name: value for name, value in model.items()
              if isinstance(value, Tensor) and 'num_batches_tracked' not in name}
    return Fit(
        total=len(wanted),
        missing=[name for name in wanted if name not in file],
        reshaped={name: (tuple(file[name].shape), tuple(value.shape))
                  for name, value in wanted.items()
                  if name in file and file[name].shape != value.shape},
        extra=[name for name in file if name not in model and UNUSED_TENSORS not in name])


def check_checkpoint_file(path: str, *, what: str = 'checkpoint') -> Optional[Mapping]:
    """A local checkpoint exists and can be read; before models and data sets are built.

    Call it inside ``safe_checkpoint_loading``. Of the usual (zip) format the tensors are not read.

    Args:
        path (str): File; a URL is not looked at.
        what (str): Names the option or key that the path came from.

    Returns:
        Mapping or None: The checkpoint, its tensors not yet read; None of a URL.

    Raises:
        UsageError: If the file is missing, truncated, no checkpoint, or (UntrustedFileError) holds
            objects whose loading could run code.
    """
    if '://' in path:
        return None
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise UsageError(f'{what}: no file {path} (looked for from {osp.abspath("")})')
    try:
        checkpoint = _read_structure(path)
    except pickle.UnpicklingError as error:
        if 'Weights only load failed' in str(error) and 'GLOBAL' in str(error):
            found = re.search(r'GLOBAL (\S+)', str(error))
            raise UntrustedFileError(
                f'{what} {path} holds more than weights ({found.group(1) if found else "code"}), '
                'and reading that could run any code: take a file with weights only or, if you '
                'trust where it came from, say --trust-checkpoint'
            ) from error
        raise _unreadable(path, what) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise _unreadable(path, what) from error
    _state_dict(checkpoint, f'{what} {path}')
    return checkpoint


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Compares a checkpoint with the model before its weights are loaded.

    A checkpoint to test or to resume from must have every tensor of the model in its shape. One to
    start from (``load_from``) must have half of them; what it lacks is named in one warning.
    """

    # Before EMAHook, which works on the checkpoint without looking.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Called by the Runner between reading the file and loading it.

        Args:
            runner (Runner): The runner.
            checkpoint (dict): What was read.

        Raises:
            UsageError: If the checkpoint does not belong to the model.
        """
        name = f'checkpoint {runner._load_from or find_latest_checkpoint(runner.work_dir)}'
        state_dict = _state_dict(checkpoint, name)
        resume = runner._resume
        if resume:
            _check_resumable(checkpoint, name)
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        fit = compare(state_dict, model.state_dict())
        if fit.extra:
            runner.logger.info(f'{name}: {len(fit.extra)} tensors are not in the model and are '
                               f'ignored ({some_of(fit.extra, 4)})')
        if fit.fitting == fit.total:
            return
        fine_tuning = isinstance(runner._train_loop, BaseLoop) and not resume
        if not fine_tuning or 2 * fit.fitting < fit.total:
            raise UsageError(f'{name} does not fit the model: {fit.fitting} of its {fit.total} '
                             f'tensors are there; {_differences(fit)}: {_hint(fit)}')
        runner.logger.warning(
            f'{name}: {fit.fitting} of {fit.total} tensors of the model are loaded; these stay as '
            f'initialised: {_differences(fit)}')


def _read_structure(path) -> object:
    """The checkpoint, its tensors still on the disk where the format allows it."""
    # weights_only is left to torch's default and to the environment, see safe_checkpoint_loading.
    try:
        return torch.load(path, map_location='cpu', mmap=True)
    except (RuntimeError, TypeError) as error:
        # Files from before torch 1.6 cannot be mapped, and torch < 2.1 cannot map.
        if 'mmap' not in str(error):
            raise
    return torch.load(path, map_location='cpu')


def _unreadable(path, what):
    return UsageError(f'{what} {path} cannot be read ({osp.getsize(path)} bytes): it is '
                      'truncated, damaged or no checkpoint; fetch or save it again')


def _state_dict(checkpoint, name) -> Mapping[str, Tensor]:
    """Weights of a checkpoint, or of a file that is nothing but weights."""
    if isinstance(checkpoint, Mapping):
        state_dict = checkpoint.get('state_dict', checkpoint)
        if isinstance(state_dict, Mapping) \
                and any(isinstance(value, Tensor) for value in state_dict.values()):
            return state_dict
        found = ', '.join(map(str, list(checkpoint)[:8])) or 'nothing'
        raise UsageError(f'{name} has no state_dict with weights (it has {found}): it is no '
                         'checkpoint of a model')
    raise UsageError(f'{name} is no checkpoint: it holds a {type(checkpoint).__name__}, not a '
                     'dict with state_dict')


def _check_resumable(checkpoint, name):
    missing = [key for key in ('meta', 'message_hub') if key not in checkpoint]
    if missing:
        raise UsageError(
            f'{name} cannot be resumed: it holds weights without the state of training (no '
            f'{", ".join(missing)}); to start from its weights, leave --resume out and say '
            '--cfg-options load_from=FILE')


def _differences(fit):
    parts = []
    if fit.missing:
        parts.append(f'not in the file: {some_of(fit.missing, 4)}')
    if fit.reshaped:
        shapes = [f'{name} {file} in the file, {model} in the model'
                  for name, (file, model) in fit.reshaped.items()]
        parts.append(f'of another shape: {some_of(shapes, 3)}')
    return '; '.join(parts)


def _hint(fit) -> str:
    classes = {file[0] for name, (file, _) in fit.reshaped.items() if _CLASSIFIER.search(name)}
    others = [name for name in fit.reshaped if not _CLASSIFIER.search(name)] + fit.missing
    if classes and not others:
        return (f'the file is of a model with another number of classes (its classifiers have '
                f'{some_of(sorted(classes))} outputs); set num_classes to it or take another file')
    strange = _common_part(others)
    return (f'the file is of a model with another {strange}; ' if strange else '') + \
        'use the config that it was trained with'


def _common_part(names) -> Optional[str]:
    """The part of the detector (backbone, neck, ...) that all names are in."""
    parts = {name.split('.')[0] for name in names}
    return parts.pop() if len(parts) == 1 else None
