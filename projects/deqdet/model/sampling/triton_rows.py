"""Sampling in one triton kernel: the table of `RowPyramid`, without row indices and weights in memory."""

from typing import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...errors import UsageError
from .rows import RowPyramid


class TritonPyramid(RowPyramid):
    """The same table of rows; a kernel computes the rows and weights of each point.

    For GPUs. On a CPU it runs, slowly, only with triton's interpreter, for tests.

    Raises:
        UsageError: If triton is missing, or if it has no compiler for the device of the features.
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
    """Check that triton is installed and has a compiler for a device.

    Raises:
        UsageError: With the package to install, or the setting to choose instead.
    """
    try:
        from .triton_kernels import INTERPRETED
    except ImportError as error:
        raise UsageError(f'sampling="triton" needs triton ({error}): pip install triton, or use '
                         'sampling="auto"', 'missing-package') from error
    if device.type == 'cpu' and not INTERPRETED:
        raise UsageError('sampling="triton" needs a GPU: use sampling="auto" on a CPU (or set '
                         'TRITON_INTERPRET=1 to try its interpreter)', 'no-device')
