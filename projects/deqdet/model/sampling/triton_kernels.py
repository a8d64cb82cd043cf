"""The kernels of `TritonPyramid`; importing this file needs triton.

A program processes some points with all channels of their groups. It writes no intermediate values to memory;
the backward pass computes weights and values again.
"""

from typing import Optional, Sequence, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# Values of each corner in a program: 8 for each thread of 4 warps.
BLOCK_VALUES = 1024

# They depend on the sizes of the images; compiling a program for each value would be a waste.
_VARY = ['count', 'per_image', 'cells']


@triton.jit
def _load_points(points_ptr, point, present, dtype: tl.constexpr):
    """x, y and z of some points."""
    x = tl.load(points_ptr + 3 * point, mask=present, other=0.0).to(dtype)
    y = tl.load(points_ptr + 3 * point + 1, mask=present, other=0.0).to(dtype)
    z = tl.load(points_ptr + 3 * point + 2, mask=present, other=0.0).to(dtype)
    return x, y, z


@triton.jit
def _logit(z, level_z_ptr, level):
    """Logit of a level in the softmax over the levels."""
    away = z - tl.load(level_z_ptr + level)
    return -0.5 * away * away


@triton.jit
def _normaliser(z, level_z_ptr, LEVELS: tl.constexpr):
    """Largest logit of each point, and the sum of the exponentials relative to it."""
    top = _logit(z, level_z_ptr, 0)
    for level in tl.static_range(1, LEVELS):
        top = tl.maximum(top, _logit(z, level_z_ptr, level))
    total = z * 0.0
    for level in tl.static_range(LEVELS):
        total += tl.exp(_logit(z, level_z_ptr, level) - top)
    return top, total


@triton.jit
def _between(pixels, cells_per_pixel, size):
    """The cell before a coordinate, the weight of the cell after it, and whether both are off the level."""
    place = pixels * cells_per_pixel - 0.5
    # Comparisons with NaN are false, so its weight stays NaN and reaches the result.
    outside = (place < -1.0) | (place > size)
    place = tl.where(place < -1.0, -1.0, place)
    place = tl.where(place > size, size, place)
    low = tl.floor(place)
    low = tl.where(low == low, low, 0.0)  # NaN must not become an index
    return low.to(tl.int64), place - low, outside


@triton.jit
def _cell(x, y, level, cells_per_pixel_ptr, height_ptr, width_ptr, line_ptr, start_ptr):
    """For each point: upper left cell, weights of the right and the lower cells, cells per line, inside.

    If a point is inside, all its corners are in the table, which has a border of zeros.
    """
    cells_per_pixel = tl.load(cells_per_pixel_ptr + level)
    column, right, beside = _between(x, cells_per_pixel, tl.load(width_ptr + level))
    row, below, beyond = _between(y, cells_per_pixel, tl.load(height_ptr + level))
    line = tl.load(line_ptr + level).to(tl.int64)
    return tl.load(start_ptr + level) + row * line + column, right, below, line, (beside | beyond) == 0


@triton.jit
def _places(count, per_image, cells, GROUPS: tl.constexpr, NUM_POINTS: tl.constexpr, CHANNELS: tl.constexpr,
            BLOCK_POINTS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr):
    """Points and channels of this program, and the place of their first cell in the table."""
    point = tl.program_id(0).to(tl.int64) * BLOCK_POINTS + tl.arange(0, BLOCK_POINTS)
    channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    start = (point // per_image * cells * GROUPS + point // NUM_POINTS % GROUPS) * CHANNELS
    return point, point < count, channel, start[:, None] + channel


@triton.jit(do_not_specialize=_VARY)
def _forward(points_ptr, rows_ptr, out_ptr,
             cells_per_pixel_ptr, height_ptr, width_ptr, line_ptr, start_ptr, level_z_ptr,
             count, per_image, cells,
             GROUPS: tl.constexpr, NUM_POINTS: tl.constexpr, LEVELS: tl.constexpr, CHANNELS: tl.constexpr,
             BLOCK_POINTS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr):
    """Compute sampled values, has shape (count, CHANNELS), of points, has shape (count, 3)."""
    dtype: tl.constexpr = rows_ptr.dtype.element_ty
    ROW: tl.constexpr = GROUPS * CHANNELS
    point, present, channel, place = _places(
        count, per_image, cells, GROUPS, NUM_POINTS, CHANNELS, BLOCK_POINTS, BLOCK_CHANNELS)
    table = rows_ptr + place
    x, y, z = _load_points(points_ptr, point, present, dtype)
    top, total = _normaliser(z, level_z_ptr, LEVELS)
    value = tl.zeros([BLOCK_POINTS, BLOCK_CHANNELS], dtype)
    for level in tl.static_range(LEVELS):
        cell, right, below, line, within = _cell(
            x, y, level, cells_per_pixel_ptr, height_ptr, width_ptr, line_ptr, start_ptr)
        weight = tl.exp(_logit(z, level_z_ptr, level) - top) / total
        corner = table + (cell * ROW)[:, None]
        mask = (present & within)[:, None] & (channel < CHANNELS)
        value += (weight * (1 - below) * (1 - right))[:, None] * tl.load(corner, mask=mask, other=0.0)
        value += (weight * (1 - below) * right)[:, None] * tl.load(corner + ROW, mask=mask, other=0.0)
        corner += line * ROW
        value += (weight * below * (1 - right))[:, None] * tl.load(corner, mask=mask, other=0.0)
        value += (weight * below * right)[:, None] * tl.load(corner + ROW, mask=mask, other=0.0)
    tl.store(out_ptr + point[:, None] * CHANNELS + channel, value,
             mask=present[:, None] & (channel < CHANNELS))


@triton.jit(do_not_specialize=_VARY)
def _backward(points_ptr, rows_ptr, gradient_ptr, points_gradient_ptr, rows_gradient_ptr,
              cells_per_pixel_ptr, height_ptr, width_ptr, line_ptr, start_ptr, level_z_ptr,
              count, per_image, cells,
              GROUPS: tl.constexpr, NUM_POINTS: tl.constexpr, LEVELS: tl.constexpr, CHANNELS: tl.constexpr,
              BLOCK_POINTS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
              OF_POINTS: tl.constexpr, OF_ROWS: tl.constexpr):
    """Write the gradients of the points, and add up those of the table."""
    dtype: tl.constexpr = rows_ptr.dtype.element_ty
    ROW: tl.constexpr = GROUPS * CHANNELS
    point, present, channel, place = _places(
        count, per_image, cells, GROUPS, NUM_POINTS, CHANNELS, BLOCK_POINTS, BLOCK_CHANNELS)
    x, y, z = _load_points(points_ptr, point, present, dtype)
    top, total = _normaliser(z, level_z_ptr, LEVELS)
    gradient = tl.load(gradient_ptr + point[:, None] * CHANNELS + channel,
                       mask=present[:, None] & (channel < CHANNELS), other=0.0)
    of_x, of_y = tl.zeros([BLOCK_POINTS], dtype), tl.zeros([BLOCK_POINTS], dtype)
    # Weighted sums over the levels for the gradient of z: of the value (times the incoming gradient, summed
    # over the channels), of the distance from the level, and of their product.
    value, distance = tl.zeros([BLOCK_POINTS], dtype), tl.zeros([BLOCK_POINTS], dtype)
    product = tl.zeros([BLOCK_POINTS], dtype)
    for level in tl.static_range(LEVELS):
        cell, right, below, line, within = _cell(
            x, y, level, cells_per_pixel_ptr, height_ptr, width_ptr, line_ptr, start_ptr)
        weight = tl.exp(_logit(z, level_z_ptr, level) - top) / total
        corner = place + (cell * ROW)[:, None]
        lower = corner + line * ROW
        mask = (present & within)[:, None] & (channel < CHANNELS)
        if OF_POINTS:
            upper_left = tl.sum(gradient * tl.load(rows_ptr + corner, mask=mask, other=0.0), axis=1)
            upper_right = tl.sum(gradient * tl.load(rows_ptr + corner + ROW, mask=mask, other=0.0), axis=1)
            lower_left = tl.sum(gradient * tl.load(rows_ptr + lower, mask=mask, other=0.0), axis=1)
            lower_right = tl.sum(gradient * tl.load(rows_ptr + lower + ROW, mask=mask, other=0.0), axis=1)
            above_value = upper_left + right * (upper_right - upper_left)
            below_value = lower_left + right * (lower_right - lower_left)
            here = weight * (above_value + below * (below_value - above_value))
            value += here
            away = z - tl.load(level_z_ptr + level)
            distance += weight * away
            product += here * away
            scale = weight * tl.load(cells_per_pixel_ptr + level)
            of_x += scale * ((1 - below) * (upper_right - upper_left) + below * (lower_right - lower_left))
            of_y += scale * (below_value - above_value)
        if OF_ROWS:
            table = rows_gradient_ptr
            tl.atomic_add(table + corner, (weight * (1 - below) * (1 - right))[:, None] * gradient,
                          mask=mask, sem='relaxed')
            tl.atomic_add(table + corner + ROW, (weight * (1 - below) * right)[:, None] * gradient,
                          mask=mask, sem='relaxed')
            tl.atomic_add(table + lower, (weight * below * (1 - right))[:, None] * gradient,
                          mask=mask, sem='relaxed')
            tl.atomic_add(table + lower + ROW, (weight * below * right)[:, None] * gradient,
                          mask=mask, sem='relaxed')
    if OF_POINTS:
        tl.store(points_gradient_ptr + 3 * point, of_x, mask=present)
        tl.store(points_gradient_ptr + 3 * point + 1, of_y, mask=present)
        # The derivative of a weight w_l is w_l (mean distance - distance of l).
        tl.store(points_gradient_ptr + 3 * point + 2, value * distance - product, mask=present)


#: Kernels run on a CPU if TRITON_INTERPRET=1 was set before the import of triton.
INTERPRETED = not isinstance(_forward, triton.runtime.JITFunction)


def _launch(kernel, tensors: Sequence[Tensor], levels: Sequence[Tensor], **flags) -> None:
    """Run a kernel for all points.

    Args:
        kernel: One of the two kernels.
        tensors (Sequence[Tensor]): Its contiguous inputs and outputs; the first two are the points, has
            shape (B, N, G, P, 3), and the table, has shape (B, cells, C).
        levels (Sequence[Tensor]): Constants of the levels, see :func:`forward`.
        **flags: More constants of the kernel.
    """
    points, rows = tensors[:2]
    batch, queries, groups, num_points, _ = points.shape
    count, channels = points.numel() // 3, rows.shape[2] // groups
    block_channels = triton.next_power_of_2(channels)
    block_points = max(1, BLOCK_VALUES // block_channels)
    with torch.cuda.device_of(points):  # triton starts a kernel on the current GPU
        kernel[(triton.cdiv(count, block_points), )](
            *tensors, *levels, count, count // batch, rows.shape[1],
            GROUPS=groups, NUM_POINTS=num_points, LEVELS=levels[0].numel(), CHANNELS=channels,
            BLOCK_POINTS=block_points, BLOCK_CHANNELS=block_channels, **flags)


def forward(points: Tensor, rows: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """Sample a table of rows.

    Args:
        points (Tensor): (x, y, z), contiguous, has shape (B, N, G, P, 3).
        rows (Tensor): Channels of the cells of all levels, contiguous, has shape (B, cells, C).
        levels (Sequence[Tensor]): Cells per pixel, height, width, cells per line, first cell and log2 of the
            stride, L values each.

    Returns:
        Tensor: Sampled values, has shape (B, N, G, P, C / G).
    """
    out = rows.new_empty(*points.shape[:-1], rows.shape[2] // points.shape[2])
    _launch(_forward, (points, rows, out), levels)
    return out


def backward(points: Tensor, rows: Tensor, levels: Sequence[Tensor], gradient: Tensor, *, of_points: bool,
             of_rows: bool) -> Tuple[Optional[Tensor], Optional[Tensor]]:
    """Gradients of :func:`forward`.

    Args:
        points, rows, levels: See :func:`forward`.
        gradient (Tensor): Gradient of the sampled values, contiguous, has shape (B, N, G, P, C / G).
        of_points (bool): Compute the gradient of the points.
        of_rows (bool): Compute the gradient of the table.

    Returns:
        tuple[Tensor, Tensor]: Gradients of points and table, or None. On a GPU the gradient of the table is
        summed in no fixed order.
    """
    points_gradient = torch.empty_like(points) if of_points else None
    rows_gradient = torch.zeros_like(rows) if of_rows else None
    # The kernel needs a pointer also for a gradient that it does not compute.
    written = [points if points_gradient is None else points_gradient,
               rows if rows_gradient is None else rows_gradient]
    _launch(_backward, (points, rows, gradient, *written), levels, OF_POINTS=of_points, OF_ROWS=of_rows)
    return points_gradient, rows_gradient
