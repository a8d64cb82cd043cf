"""Describes the content of a checkpoint in lines of text."""

import os.path as osp
import re
from collections import Counter
from typing import Any, List, Mapping

from torch import Tensor

from ..compat.checkpoint_loading import UNUSED_TENSORS, unused_tensors
from ..data.findings import some_of
from .architecture import in_words, read_architecture
from .check import state_dict_of
from .fit import shapes_of
from .weight_names import without_wrappers

# Keys of the meta that tell the origin of a file.
_ORIGIN = dict(epoch='epoch {}', iter='iteration {}', mmengine_version='mmengine {}', time='saved {}',
               seed='seed {}', experiment_name='experiment {}')


def summarise_checkpoint(path: str, checkpoint: Mapping[str, Any]) -> List[str]:
    """Describe a checkpoint without reading its tensors.

    Args:
        path (str): The file.
        checkpoint (Mapping[str, Any]): Its content, see ``check_checkpoint_file``.

    Returns:
        list[str]: Lines with size, origin, classes, architecture, tensors and values by part of the detector
            (a tensor under several names counts once), and the other content.

    Raises:
        UsageError: If there are no weights.
    """
    state_dict = {name: value for name, value in without_wrappers(state_dict_of(checkpoint, path)).items()
                  if isinstance(value, Tensor)}
    unused = {name: state_dict[name] for name in unused_tensors(state_dict)}
    weights = {name: value for name, value in state_dict.items() if name not in unused}
    only_weights = any(isinstance(value, Tensor) for value in checkpoint.values())
    lines = [f'{path}: {osp.getsize(path) / 1e6:.1f} MB',
             f'keys: {"only weights" if only_weights else ", ".join(map(str, checkpoint))}']
    lines += _origin({} if only_weights else checkpoint.get('meta') or {})
    lines.append(f'architecture: {in_words(read_architecture(shapes_of(weights)))}')
    lines += _parts(weights)
    if unused:
        lines.append(f'  not used by any computation: {_amount(unused)} (*{UNUSED_TENSORS}*)')
    return lines + ([] if only_weights else _state_of_training(checkpoint))


def _origin(meta) -> List[str]:
    known = [words.format(meta[key]) for key, words in _ORIGIN.items() if meta.get(key) is not None]
    lines = [f'from: {", ".join(known) or "unknown"}; config: {"yes" if meta.get("cfg") else "no"}']
    dataset = {str(key).lower(): value for key, value in dict(meta.get('dataset_meta') or {}).items()}
    classes = dataset.get('classes')
    return lines + ([f'classes: {len(classes)} ({some_of(list(classes), 5)})'] if classes else [])


def _parts(weights) -> List[str]:
    parts = {}
    for name, value in weights.items():
        part = re.findall(r'roi_head\.(?:bbox|mask)_head\.\d+|[^.]+', name)[0]
        parts.setdefault(part, {})[name] = value
    kinds = Counter(str(value.dtype).replace('torch.', '') for value in weights.values())
    lines = [f'weights: {_amount(weights)}, {", ".join(kind for kind, _ in kinds.most_common())}']
    seen = set()
    for part, tensors in parts.items():
        own = {name: value for name, value in tensors.items() if _identity(value) not in seen}
        seen.update(map(_identity, own.values()))
        shared = len(tensors) - len(own)
        lines.append(f'  {part}: {_amount(own)}' + (f', {shared} shared with parts above' if shared else ''))
    return lines


def _state_of_training(checkpoint) -> List[str]:
    optimizer = checkpoint.get('optimizer')
    groups = optimizer.get('param_groups', []) if isinstance(optimizer, Mapping) else []
    hub = checkpoint.get('message_hub')
    logs = hub.get('log_scalars', {}) if isinstance(hub, Mapping) else {}
    return [
        'optimiser: ' + (f'yes ({len(groups)} groups of parameters)' if optimizer else 'no'),
        'moving average (EMA): ' + (
            'yes (state_dict has the average, ema_state_dict the weights themselves)'
            if 'ema_state_dict' in checkpoint else 'no'),
        'log (message_hub): ' + (f'yes ({len(logs)} curves)' if hub else 'no')]


def _identity(value) -> tuple:
    return value.data_ptr(), value.shape, value.stride()


def _amount(tensors) -> str:
    values = sum({_identity(value): value.numel() for value in tensors.values()}.values())
    unit = f'{values / 1e6:.1f} M' if values >= 1e5 else str(values)
    return f'{len(tensors)} tensors, {unit} values'
