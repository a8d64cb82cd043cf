"""Memory that a computation needs, counted tensor by tensor: the same on every device and machine."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside and alive at once.

    ::

        with PeakMemory() as memory:
            ...
        memory.peak

    Attributes:
        peak (int): Most bytes at any time. What an operator needs inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operator and note the storages of what it returns."""
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._alive[storage] = storage.nbytes()
        self.peak = max(self.peak, sum(self._alive.values()))
        return out
