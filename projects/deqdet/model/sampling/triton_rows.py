"""Sampling in one kernel of triton: the table of `RowPyramid` without rows and weights in memory."""

from typing import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...errors import UsageError
from .rows import RowPyramid


class TritonPyramid(RowPyramid):
    """The same table of rows, read by a kernel that computes where and how much.

    Meant for GPUs. On a CPU it runs where triton's interpreter is on, slowly: for tests.

    Raises:
        UsageError: If triton is missing, or the features are where it has no compiler.
    """

    def __init__(self, features: Sequence[Tensor], strides: Sequence[int]) -> None:
        check_triton(features[0].device)
        super().__init__(features, strides)

    def sample_images(self, points: Tensor) -> Tensor:
        levels = (self.cells_per_pixel, self.height, self.width, self.line, self.start, self.level_z)
        return _Sample.apply(points.contiguous(), self.rows, *levels)


class _Sample(torch.autograd.Function):
    """The two kernels as one differentiable function of points and table."""

    @staticmethod
    def forward(ctx, points, rows, *levels):
        from . import triton_kernels
        ctx.save_for_backward(points, rows, *levels)
        return triton_kernels.forward(points, rows, levels)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        from . import triton_kernels
        points, rows, *levels = ctx.saved_tensors
        of_points, of_rows = ctx.needs_input_grad[:2]
        gradients = triton_kernels.backward(
            points, rows, levels, gradient.contiguous(), of_points=of_points, of_rows=of_rows)
        return (*gradients, *[None] * len(levels))


def check_triton(device: torch.device) -> None:
    """Refuse a device for which triton has no compiler, or a missing triton.

    Raises:
        UsageError: Saying what to install or to choose instead.
    """
    try:
        from .triton_kernels import INTERPRETED
    except ImportError as error:
        raise UsageError(f'sampling="triton" needs triton ({error}): pip install triton, or choose '
                         'sampling="auto"') from error
    if device.type == 'cpu' and not INTERPRETED:
        raise UsageError('sampling="triton" is for GPUs: choose sampling="auto" on a CPU (or set '
                         'TRITON_INTERPRET=1, to try its interpreter)')
