"""Weights in safetensors files, which can hold no code, as an alternative to torch's files.

The format has no shared tensors, and its metadata is only text. A tensor that a model has under several names
is written once. The metadata maps its other names to that name, as in the library's own ``save_model``.
"""

import json
import os.path as osp
from typing import Any, Dict, Mapping

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..errors import UsageError

ENDING = '.safetensors'

# Entries of a checkpoint's meta that are no text.
_NOT_TEXT = ('dataset_meta', 'epoch', 'iter')


def write_safetensors(path: str, state_dict: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write weights and their metadata.

    Args:
        path (str): The file.
        state_dict (Mapping[str, Tensor]): The weights; those with several names are written once.
        meta (Mapping[str, Any]): Texts, and ``dataset_meta``, ``epoch`` and ``iter``.

    Raises:
        UsageError: If the package safetensors is missing.
    """
    names: Dict[tuple, str] = {}
    tensors, metadata = {}, dict(format='pt')
    for name, value in state_dict.items():
        # With equal storage, shape and strides, it is one tensor.
        first = names.setdefault((value.data_ptr(), value.shape, value.stride(), value.dtype), name)
        if first == name or not value.numel():
            # A part of a larger storage, or an expanded tensor, gets its own storage.
            whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
            tensors[name] = value if whole else value.clone(memory_format=torch.contiguous_format)
        else:
            metadata[name] = first
    metadata.update({key: value if isinstance(value, str) else json.dumps(value)
                     for key, value in meta.items()})
    content = _library().torch.save(tensors, metadata)
    # The library's own save_file makes files that other users cannot read.
    with open(path, 'wb') as file:
        file.write(content)


def read_safetensors(path: str) -> Dict[str, Dict]:
    """A safetensors file as a checkpoint.

    Args:
        path (str): A local file.

    Returns:
        dict: ``state_dict``, with every name of a shared tensor, and ``meta``.

    Raises:
        UsageError: If the package safetensors is missing.
        ValueError: If the file is damaged or of another kind.
    """
    library = _library()
    try:
        with library.safe_open(path, framework='pt') as file:
            metadata = dict(file.metadata() or {})
            state_dict = {name: file.get_tensor(name) for name in file.keys()}
    except library.SafetensorError as error:
        raise ValueError(f'{path}: {error}') from error
    shared = {name: first for name, first in metadata.items()
              if name not in state_dict and first in state_dict}
    state_dict.update({name: state_dict[first] for name, first in shared.items()})
    try:
        meta = {key: json.loads(value) if key in _NOT_TEXT else value
                for key, value in metadata.items() if key not in shared and key != 'format'}
        if 'dataset_meta' in meta:
            # JSON has no tuples, but colours and class names are tuples.
            meta['dataset_meta'] = {
                key: tuple(value) if key == 'classes' else [tuple(colour) for colour in value]
                for key, value in meta['dataset_meta'].items() if key in ('classes', 'palette')}
    except (AttributeError, TypeError) as error:
        raise ValueError(f'{path}: the metadata are not those of a checkpoint ({error})') from error
    return dict(state_dict=state_dict, meta=meta)


# mmengine uses the first scheme whose pattern matches; those of URLs come before this one.
@CheckpointLoader.register_scheme(prefixes=r'.*\.safetensors$')
def load_from_safetensors(filename: str, map_location: Any = None) -> Dict[str, Dict]:
    """mmengine's loader for such files, see :func:`read_safetensors`.

    Args:
        filename (str): A local file.
        map_location (str or torch.device, optional): Device of the tensors.

    Returns:
        dict: ``state_dict`` and ``meta``.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    path = osp.expanduser(filename)
    if not osp.isfile(path):
        raise FileNotFoundError(f'{path} can not be found.')
    checkpoint = read_safetensors(path)
    if isinstance(map_location, (str, torch.device)):
        checkpoint['state_dict'] = {
            name: value.to(map_location) for name, value in checkpoint['state_dict'].items()}
    return checkpoint


def _library():
    try:
        import safetensors.torch
    except ImportError as error:
        raise UsageError('files in the format of safetensors need the package safetensors: '
                         'pip install safetensors', 'missing-package') from error
    return safetensors
