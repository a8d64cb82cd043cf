"""Memory of a computation, counted by tensors, so it is the same on every device and machine."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that are created inside and alive at the same time.

    ::

        with PeakMemory() as memory:
            ...
        memory.peak

    Attributes:
        peak (int): Largest number of bytes at any time, without the internal memory of operators.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operator and record the storages of its results."""
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._alive[storage] = storage.nbytes()
        self.peak = max(self.peak, sum(self._alive.values()))
        return out
