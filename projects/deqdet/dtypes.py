"""In which precision things are computed that half precision is too coarse for."""

import torch
from torch import Tensor


def working_dtype(tensor: Tensor) -> torch.dtype:
    """float64 for a tensor in float64, float32 for every other one."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def widened(tensor: Tensor) -> Tensor:
    """The tensor in its :func:`working_dtype`: half precision goes up to float32, double precision stays."""
    return tensor.to(working_dtype(tensor))
