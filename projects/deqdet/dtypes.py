"""Precision of computations for which half precision is too coarse."""

import torch
from torch import Tensor


def working_dtype(tensor: Tensor) -> torch.dtype:
    """float64 for a float64 tensor, float32 for all others."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def widened(tensor: Tensor) -> Tensor:
    """The tensor in its :func:`working_dtype`: half precision becomes float32, float64 stays."""
    return tensor.to(working_dtype(tensor))
