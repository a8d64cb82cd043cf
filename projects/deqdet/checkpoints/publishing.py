"""Published checkpoints hold the weights and a description of them, but nothing of the training."""

import hashlib
import io
import os.path as osp
import re
from typing import Any, Dict, Mapping, Optional

import torch

from ..compat.checkpoint_loading import unused_tensors
from ..compat.safetensors_loading import ENDING, write_safetensors
from ..errors import UsageError
from ..files.atomic import AtomicBackend, written_aside
from .check import state_dict_of
from .weight_names import without_wrappers

# Kept keys of a checkpoint's meta, without time, seed and name of the run. mmdet's inferencer needs cfg.
_META = ('dataset_meta', 'epoch', 'iter', 'cfg', 'mmengine_version')

# As in torch.hub and mmdet, the file name holds the first digits of the content's hash.
_DIGITS = 8


def published(checkpoint: Mapping[str, Any], name: str, *, average: Optional[bool] = None,
              with_config: bool = True, prefix: str = '') -> Dict[str, Dict]:
    """The part of a checkpoint that is published.

    mmengine's ``EMAHook`` swaps the weights on saving: ``state_dict`` holds their moving average, which a
    test loads, and ``ema_state_dict`` holds the weights themselves.

    Args:
        checkpoint (Mapping[str, Any]): Content of a file.
        name (str): Names the file in messages.
        average (bool, optional): True requires the moving average of the weights, False the weights
            themselves. Default: what a test loads.
        with_config (bool): Keep the text of the config, which may name folders.
        prefix (str): Keep only the weights whose names begin with it, and remove it from the names.

    Returns:
        dict: ``state_dict`` without the tensors that no computation uses, and ``meta``: classes and palette,
            epoch and iteration, version of mmengine and the config, as far as the file has them.

    Raises:
        UsageError: If there are no weights, or none of the required kind.
    """
    state_dict = state_dict_of(checkpoint, name)
    if average is not None and 'ema_state_dict' not in checkpoint:
        raise UsageError(f'{name} has no moving average of the weights (ema_state_dict): remove '
                         f'--{"" if average else "no-"}ema', 'bad-argument')
    if average is False:
        # Beside the weights it holds the number of steps.
        state_dict = {key[len('module.'):]: value for key, value in checkpoint['ema_state_dict'].items()
                      if key.startswith('module.')}
    state_dict = without_wrappers(state_dict)
    if prefix:
        state_dict = {key[len(prefix):]: value for key, value in state_dict.items() if key.startswith(prefix)}
        if not state_dict:
            raise UsageError(f'--prefix {prefix}: no tensor of {name} has a name that begins with it',
                             'bad-argument')
    unused = unused_tensors(state_dict)
    weights = {key: value.detach() for key, value in state_dict.items()
               if isinstance(value, torch.Tensor) and key not in unused}
    return dict(meta=_published_meta(checkpoint.get('meta'), with_config), state_dict=weights)


def _published_meta(meta, with_config) -> Dict[str, Any]:
    # A file that holds only weights may have a tensor of that name.
    meta = meta if isinstance(meta, Mapping) else {}
    kept = {key: meta[key] for key in _META if isinstance(meta.get(key), (str, int, Mapping))}
    if 'dataset_meta' in kept:
        # The first checkpoints of mmdet 3 use capitals.
        known = {str(key).lower(): value for key, value in dict(kept['dataset_meta']).items()}
        kept['dataset_meta'] = {key: known[key] for key in ('classes', 'palette') if known.get(key)}
    if not with_config:
        kept.pop('cfg', None)
    return kept


def save_published(checkpoint: Mapping[str, Any], out: str, *, force: bool = False) -> str:
    """Write a published checkpoint; its file name ends in the first digits of its SHA-256.

    The same weights and meta give the same file.

    Args:
        checkpoint (Mapping[str, Any]): See :func:`published`.
        out (str): ``NAME.pth``; digits that it already has (``NAME-1a2b3c4d.pth``) are replaced.
        force (bool): Replace an existing file.

    Returns:
        str: The file.

    Raises:
        UsageError: If the name has another extension, or the file exists.
    """
    stem, ending = osp.splitext(out)
    if ending != '.pth':
        raise UsageError(f'{out}: the name must end in .pth (for {ENDING} use convert)', 'bad-argument')
    # Saved in memory, because torch writes a file's name into the file.
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    content = buffer.getbuffer()
    digits = hashlib.sha256(content).hexdigest()[:_DIGITS]
    path = re.sub(f'-[0-9a-f]{{{_DIGITS}}}$', '', stem) + f'-{digits}.pth'
    refuse_to_overwrite(path, force)
    AtomicBackend().put(content, path)
    return path


def save_safetensors(checkpoint: Mapping[str, Any], out: str, *, force: bool = False) -> None:
    """Write a published checkpoint as a safetensors file.

    Args:
        checkpoint (Mapping[str, Any]): See :func:`published`.
        out (str): ``NAME.safetensors``.
        force (bool): Replace an existing file.

    Raises:
        UsageError: If the name has another extension, the file exists, or safetensors is not installed.
    """
    if not out.endswith(ENDING):
        raise UsageError(f'{out}: the name must end in {ENDING} (for .pth use strip)', 'bad-argument')
    refuse_to_overwrite(out, force)
    with written_aside(out) as aside:
        write_safetensors(aside, checkpoint['state_dict'], checkpoint['meta'])


def refuse_to_overwrite(path: str, force: bool) -> None:
    """Raise a UsageError if the file exists, unless forced."""
    if not force and osp.exists(path):
        raise UsageError(f'{path} already exists: use another name, or replace it with --force',
                         'output-exists')
