"""A checkpoint that does not belong to the model is refused in one line.

mmengine only logs a warning of a hundred lines and continues with random weights.
"""

import os.path as osp
import pickle
import re
import zipfile
from typing import Any, Iterator, Mapping, Optional

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ..compat.runner_state import is_resuming, loaded_file, loop_at_work
from ..compat.safetensors_loading import ENDING, read_safetensors
from ..data.findings import some_of
from ..errors import UsageError
from ..settings import settings_below
from .fit import fit_weights
from .weight_names import for_mmengine

# Keys under which other programs save weights. Averages of weights come last.
_OTHER_KEYS = ('model', 'model_state_dict', 'module', 'net', 'network', 'weights', 'params', 'ema_state_dict',
               'model_ema', 'ema')


def check_checkpoint_file(path: str, *, what: str = 'checkpoint') -> Optional[Mapping]:
    """Check that a local checkpoint exists and can be read, before models and data sets are built.

    Call it inside ``safe_checkpoint_loading``. It reads no tensors of the zip format and of safetensors.

    Args:
        path (str): File; a URL is not checked.
        what (str): Names the option or key that the path came from.

    Returns:
        Mapping or None: The checkpoint, its tensors not yet read; None for a URL.

    Raises:
        UsageError: If the file is missing, truncated, no checkpoint, or holds objects that
            could run code when loaded.
    """
    checkpoint = _read_safely(path, what)
    if checkpoint is not None:
        state_dict_of(checkpoint, f'{what} {osp.expanduser(path)}')
    return checkpoint


def check_pretrained(model: Any) -> None:
    """Check that the files of a model's pretrained weights can be read and run no code.

    Missing files are left to the model, which explains how to continue without them.

    Raises:
        UsageError: As in :func:`check_checkpoint_file`, but the names of the weights are not checked.
    """
    for key, part in settings_below(model, 'model'):
        path = part.get('checkpoint') if isinstance(part, dict) else None
        if isinstance(path, str) and osp.isfile(osp.expanduser(path)) \
                and str(part.get('type')).split('.')[-1] in ('Pretrained', 'PretrainedInit'):
            _read_safely(path, f'{key}.checkpoint')


def untrusted(error: pickle.UnpicklingError, name: str) -> Optional[UsageError]:
    """The error to report if torch refused to load the objects in a file.

    Args:
        error (pickle.UnpicklingError): From ``torch.load``.
        name (str): Names the file.

    Returns:
        UsageError: None if the file is no pickle, or is damaged.
    """
    if 'Weights only load failed' not in str(error) or 'GLOBAL' not in str(error):
        return None
    found = re.search(r'GLOBAL (\S+)', str(error))
    return UsageError(
        f'{name} has more than weights ({found.group(1) if found else "code"}), and could run any code: use '
        'a file with weights only or, if you trust its source, add --trust-checkpoint',
        'untrusted-checkpoint')


def _read_safely(path, what):
    if '://' in path:
        return None
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise UsageError(f'{what}: {path} does not exist (searched from {osp.abspath("")})', 'missing-file')
    try:
        checkpoint = read_safetensors(path) if path.endswith(ENDING) else _read_structure(path)
        damaged = zipfile.is_zipfile(path) and _damaged_part(path)
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        raise untrusted(error, f'{what} {path}') or _unreadable(path, what) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise _unreadable(path, what) from error
    if damaged:
        raise UsageError(f'{what} {path} is damaged (the checksum of {damaged} is wrong): download or save '
                         'it again', 'bad-checkpoint')
    return checkpoint


def state_dict_of(checkpoint: Any, name: str) -> Mapping[str, Tensor]:
    """Weights of a checkpoint, or of a file that holds only weights.

    Other programs keep them under ``model``, for example.

    Args:
        checkpoint (Any): Content of a file.
        name (str): Names the file in the message.

    Returns:
        Mapping[str, Tensor]: The state dict.

    Raises:
        UsageError: If there are no weights.
    """
    if isinstance(checkpoint, Mapping):
        for place in _places_of_weights(checkpoint):
            if isinstance(place, Mapping) and any(isinstance(value, Tensor) for value in place.values()):
                return place
        found = ', '.join(map(str, list(checkpoint)[:8])) or 'none'
        raise UsageError(f'{name} is not a checkpoint: it has no state_dict with weights (keys: {found})',
                         'bad-checkpoint')
    raise UsageError(f'{name} is not a checkpoint: it has a {type(checkpoint).__name__}, not a dict with '
                     'state_dict', 'bad-checkpoint')


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Compares a checkpoint with the model before its weights are loaded.

    A checkpoint for a test or a resumed run must have every tensor of the model in its shape, and must not
    belong to a larger architecture that has them all. A checkpoint to start from (``load_from``) must have
    half of them; one warning names the missing ones.
    """

    # Runs before EMAHook, which uses the checkpoint without a check.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Called by the Runner after it reads the file and before it loads the weights.

        Raises:
            UsageError: If the checkpoint does not belong to the model.
        """
        name = f'checkpoint {loaded_file(runner)}'
        state_dict = state_dict_of(checkpoint, name)
        resume = is_resuming(runner)
        if resume:
            _check_resumable(checkpoint, name)
        weights, fit = fit_weights(state_dict, runner.model)
        fine_tuning = loop_at_work(runner) is not None and not resume
        # The file may have all tensors of the model and still belong to another one: ResNet-101 has the names
        # of ResNet-50, a stacked decoder those of the two layers of DEQDet.
        another = bool(fit.extra and fit.of_another_architecture())
        if fit.ignored_masks:
            runner.logger.info(f'{name}: its mask heads are ignored, because the config has no mask_head '
                               f'({len(fit.ignored_masks)} tensors)')
        extra = [each for each in fit.extra if each not in set(fit.ignored_masks)]
        if extra and not another:
            runner.logger.info(f'{name}: {len(extra)} tensors are not in the model and are '
                               f'ignored ({some_of(extra, 4)})')
        _use_names_of_model(checkpoint, weights, runner.model)
        if fit.fitting == fit.total and not another:
            return
        if not fine_tuning or 2 * fit.fitting < fit.total:
            raise fit.error(name)
        loaded = f'{name}: {fit.fitting} of {fit.total}'
        if fit.fits_but_for_masks:
            runner.logger.warning(f'{loaded} tensors of the model are loaded; the mask heads are new '
                                  f'({len(fit.new_masks)} tensors) and keep their initial values')
            return
        runner.logger.warning(f'{loaded} tensors of the model are loaded; the others keep their initial '
                              f'values or are ignored: {fit.differences()}')


def _places_of_weights(checkpoint) -> Iterator[Any]:
    """Places that may hold the weights, the most usual one first."""
    if 'state_dict' in checkpoint:
        yield checkpoint['state_dict']
        return
    yield checkpoint
    for key in _OTHER_KEYS:
        inside = checkpoint.get(key)
        if isinstance(inside, Mapping):
            yield from _places_of_weights(inside)


def _use_names_of_model(checkpoint, weights, model) -> None:
    """Give the weights in a checkpoint, and their average, the names that the Runner looks for."""
    checkpoint['state_dict'] = for_mmengine(weights)
    average = checkpoint.get('ema_state_dict')
    if isinstance(average, Mapping):
        # EMAHook swaps the two by name.
        inside = {name[len('module.'):]: value for name, value in average.items()
                  if name.startswith('module.')}
        fitted, _ = fit_weights(inside, model)
        others = {name: value for name, value in average.items() if not name.startswith('module.')}
        checkpoint['ema_state_dict'] = {**others, **{f'module.{name}': value
                                                     for name, value in fitted.items()}}


def _read_structure(path) -> Any:
    """The checkpoint, with its tensors still on disk if the format allows it."""
    # torch's default and the environment decide on weights_only, see safe_checkpoint_loading.
    try:
        return torch.load(path, map_location='cpu', mmap=True)
    except RuntimeError as error:
        # Files from before torch 1.6 cannot be memory-mapped.
        if 'mmap' not in str(error):
            raise
    return torch.load(path, map_location='cpu')


def _damaged_part(path):
    """Name of a part that does not match its checksum; torch does not check this."""
    with zipfile.ZipFile(path) as file:
        # A writer may leave out checksums (torch.serialization.set_crc32_options): they are 0 then.
        if not any(part.CRC for part in file.infolist()):
            return None
        return file.testzip()


def _unreadable(path, what):
    return UsageError(f'{what} {path} cannot be read ({osp.getsize(path)} bytes): it is truncated, damaged '
                      'or not a checkpoint; download or save it again', 'bad-checkpoint')


def _check_resumable(checkpoint, name):
    missing = [key for key in ('meta', 'message_hub') if key not in checkpoint]
    if missing:
        raise UsageError(
            f'{name} cannot be resumed: it has no state of the training ({", ".join(missing)}); to start '
            'from its weights, use --cfg-options load_from=FILE without --resume', 'resume-mismatch')
