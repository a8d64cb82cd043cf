"""Count where a program waits for its device, even on a CPU, where it never waits.

A GPU lags behind the program that gives it work. If the program reads a value of a tensor, or copies its own
memory to the GPU, it waits until the GPU has caught up.
"""

import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

#: The program must know the result of these operators, or its shape, before it continues.
_READING = ('_local_scalar_dense', 'is_nonzero', 'equal', 'allclose', 'nonzero', 'argwhere', 'masked_select',
            '_unique', '_unique2', 'unique_dim', 'unique_consecutive', 'unique_dim_consecutive', 'bincount')
#: Indexing. With a mask, PyTorch first counts the selected elements.
_INDEXING = ('index', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index', '_unsafe_index_put')
#: These show no operator, since on a CPU they access the tensor's memory directly: reading a tensor ...
_HIDDEN_READING = {Tensor.tolist: 'tolist', Tensor.numpy: 'numpy', Tensor.__array__: 'numpy',
                   Tensor.cpu: 'cpu'}
#: ... or making a tensor from the program's numbers.
_HIDDEN_WRITING = {Tensor.new_tensor: 'new_tensor', torch.tensor: 'tensor', torch.as_tensor: 'as_tensor',
                   torch.asarray: 'asarray'}
_WAITS = 'called a synchronizing CUDA operation'


@contextmanager
def host_synchronisations(device: str) -> Iterator[Counter]:
    """Count operations that make a program wait for its device, by ``operator (file:line)`` outside PyTorch.

    Waits inside an operator of PyTorch are not counted; on a GPU :func:`cuda_synchronisations` counts them.

    Args:
        device (str): Type of the device. ``'cpu'`` counts the operators that would wait for a GPU if the
            tensors were there.
    """
    places: Counter = Counter()
    with _Operators(device, places), _Functions(device, places):
        yield places


class _Operators(TorchDispatchMode):
    def __init__(self, device, places):
        super().__init__()
        self.device, self.places = device, places

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = _waiting(func, args, kwargs, self.device)
        if name:
            self.places[f'{name} ({_place()})'] += 1
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    def __init__(self, device, places):
        super().__init__()
        self.device, self.places = device, places

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = None
        if func in _HIDDEN_READING and args[0].device.type == self.device:
            name = _HIDDEN_READING[func]
        # Making a tensor from an existing tensor copies nothing from the program.
        if func in _HIDDEN_WRITING and result.device.type == self.device and not (
                'as' in _HIDDEN_WRITING[func] and isinstance(args[0], Tensor)):
            name = _HIDDEN_WRITING[func]
        if func is Tensor.__getitem__ and args[0].device.type == self.device and _has_list(args[1]):
            name = 'index by a list'
        if name:
            self.places[f'{name} ({_place()})'] += 1
        return result


def _has_list(index: Any) -> bool:
    return any(isinstance(part, list) for part in (index if isinstance(index, tuple) else (index, )))


def _waiting(func: Any, args: tuple, kwargs: Dict[str, Any], device: str) -> Optional[str]:
    """The name of an operator that waits, else None."""
    name = func.overloadpacket.__name__
    if name == '_to_copy' and kwargs.get('device') is not None:
        return _copying(args[0].device, torch.device(kwargs['device']), kwargs.get('non_blocking'))
    if name == 'copy_':
        return _copying(args[1].device, args[0].device, kwargs.get('non_blocking', len(args) > 2 and args[2]))
    if not (args and isinstance(args[0], Tensor) and args[0].device.type == device):
        return None
    if name in _READING:
        return name
    if name == 'repeat_interleave' and func._overloadname == 'Tensor':
        return None if kwargs.get('output_size') is not None else name
    if name in _INDEXING and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]):
        return f'{name} by a mask'
    return None


def _copying(source: torch.device, target: torch.device, non_blocking: Optional[bool]) -> Optional[str]:
    """Describe a blocking copy between devices; None if it does not block."""
    waits = source.type != target.type and not non_blocking
    return f'copy from {source.type} to {target.type}' if waits else None


def _place() -> str:
    """The innermost line outside PyTorch and this file."""
    for frame, line in traceback.walk_stack(None):
        path = frame.f_code.co_filename
        if path != __file__ and '/torch/' not in path:
            return _short(path, line)
    return 'torch'


def _short(path: str, line: Optional[int]) -> str:
    return f'{"/".join(path.split("/")[-2:])}:{line}'


@contextmanager
def cuda_synchronisations() -> Iterator[Counter]:
    """Count the waits that CUDA itself reports, by ``file:line``; complete after the block."""
    places: Counter = Counter()
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if _WAITS in str(warning.message):
            places[_short(warning.filename, warning.lineno)] += 1
