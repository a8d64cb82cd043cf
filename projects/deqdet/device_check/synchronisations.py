"""Where a program waits for its device: counted on a CPU too, where nothing waits.

A GPU works behind the program that gives it work. Whatever the program wants to know of a tensor, or copies
to it from memory of its own, makes it wait until the device has come that far.
"""

import traceback
import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterator, Optional

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

#: Operators whose result, or the shape of it, the program must know before it goes on.
_READING = ('_local_scalar_dense', 'is_nonzero', 'equal', 'allclose', 'nonzero', 'argwhere', 'masked_select',
            '_unique', '_unique2', 'unique_dim', 'unique_consecutive', 'unique_dim_consecutive', 'bincount')
#: Indexing; by a mask it counts the places first.
_INDEXING = ('index', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index', '_unsafe_index_put')
#: What no operator shows, since on a CPU it is done with the tensor's memory: reading it ...
_HIDDEN_READING = {Tensor.tolist: 'tolist', Tensor.numpy: 'numpy', Tensor.__array__: 'numpy',
                   Tensor.cpu: 'cpu'}
#: ... or making a tensor of numbers of the program.
_HIDDEN_WRITING = {Tensor.new_tensor: 'new_tensor', torch.tensor: 'tensor', torch.as_tensor: 'as_tensor',
                   torch.asarray: 'asarray'}
_WAITS = 'called a synchronizing CUDA operation'


class HostSynchronisations:
    """Counts what makes a program wait for its device.

    ::

        with HostSynchronisations('cpu') as waits:
            ...
        assert not waits.places

    What PyTorch does inside an operator is not seen; on a GPU :func:`cuda_synchronisations` sees it.

    Args:
        device (str): Type of the device. On ``'cpu'`` the operators are counted that would wait for a GPU, if
            the tensors were there.

    Attributes:
        places (Counter): How often, by ``operator (file:line)``, a line that is not of PyTorch.
    """

    def __init__(self, device: str) -> None:
        self.places: Counter = Counter()
        self._device = device
        self._modes = ExitStack()

    def __enter__(self) -> 'HostSynchronisations':
        self._modes.enter_context(_Operators(self._device, self.places))
        self._modes.enter_context(_Functions(self._device, self.places))
        return self

    def __exit__(self, *error: Any) -> None:
        self._modes.close()


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
        # A tensor made of one that is there is no copy from the program.
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
    """A copy between devices, for whose end the program waits."""
    waits = source.type != target.type and not non_blocking
    return f'copy from {source.type} to {target.type}' if waits else None


def _place() -> str:
    """The innermost line outside of PyTorch and of this file."""
    for frame, line in traceback.walk_stack(None):
        path = frame.f_code.co_filename
        if path != __file__ and '/torch/' not in path:
            return _short(path, line)
    return 'torch'


def _short(path: str, line: Optional[int]) -> str:
    return f'{"/".join(path.split("/")[-2:])}:{line}'


@contextmanager
def cuda_synchronisations() -> Iterator[Counter]:
    """Counts what CUDA itself reports of waiting, by ``file:line``; complete when the block has ended."""
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
