"""RoIAlign of mmcv in plain PyTorch.

The functions take the arguments of those in mmcv's compiled module ``mmcv._ext`` and follow its CUDA kernel
(mmcv 2.x, ``mmcv/ops/csrc/common/cuda``). float64 is computed in float64, every other dtype in float32.
"""

from bisect import bisect_right
from typing import Any, Iterator, NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..dtypes import working_dtype

# Sampling points per step of RoIAlign. It limits the memory to about 200 MiB and does not change the results.
_ROI_SAMPLES = 2**20

# Maps with more channels are read point by point; see `_RoIGrid.by_axes`.
_FEW_CHANNELS = 4


class _RoIGrid(NamedTuple):
    """Where RoIAlign samples the maps; pairs are (y, x), coordinates are pixels of the map."""

    image: Tensor  # index of the RoI's image, (R, )
    start: Tensor  # centre coordinates of the upper left corner, (R, 2)
    bin_size: Tensor  # (R, 2)
    samples: Tensor  # sampling points per bin, int64, (R, 2)
    bins: Tuple[int, int]  # bins per RoI
    map_size: Tuple[int, int]

    @classmethod
    def build(cls, rois: Tensor, dtype: torch.dtype, images: int, map_size: Tuple[int, int],
              bins: Tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool):
        rois = rois.to(dtype)
        image = rois[:, 0].long()
        if ((image < 0) | (image >= images)).any():
            raise IndexError(f'RoIAlign: rois[:, 0] must be an image index below {images}, '
                             f'got {rois[:, 0].min().item()} to {rois[:, 0].max().item()}')
        offset = 0.5 if aligned else 0.0
        start = rois[:, [2, 1]] * spatial_scale - offset
        size = rois[:, [4, 3]] * spatial_scale - offset - start
        if not aligned:
            size = size.clamp(min=1)
        bin_size = size / size.new_tensor(bins)
        if sampling_ratio > 0:
            samples = torch.full_like(bin_size, sampling_ratio, dtype=torch.long)
        else:
            # One point per pixel, none in an inverted RoI (its output is 0); mmcv rounds in float32. A RoI
            # that is not finite gets one point, which makes its output NaN.
            samples = bin_size.float().ceil()
            samples = torch.where(samples.isfinite(), samples.clamp(min=0), 1.0).long()
        return cls(image, start, bin_size, samples, bins, map_size)

    def chunks(self) -> Iterator[Tuple[int, int]]:
        """Ranges of bins (first, last + 1) with a bounded number of sampling points each."""
        per_roi = self.samples.prod(dim=1)
        area = self.bins[0] * self.bins[1]
        bins = len(per_roi) * area
        if int(per_roi.sum()) * area <= _ROI_SAMPLES:
            yield 0, bins
            return
        ends = per_roi.repeat_interleave(area).cumsum(dim=0).tolist()
        first = 0
        while first < bins:
            done = ends[first - 1] if first else 0
            last = max(first + 1, bisect_right(ends, done + _ROI_SAMPLES))
            yield first, last
            first = last

    def taps(self, first: int, last: int) -> Tuple[Tensor, Tensor, Tensor]:
        """The four pixels that each sampling point of bins [first, last) reads, and their weights.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Pixels as rows of the (B * H * W, C) map and their weights, both of
                shape (S, 4) for S sampling points, bin by bin; and the points per bin, ``last - first``
                values.
        """
        height, width = self.map_size
        index = torch.arange(first, last, device=self.image.device)
        roi = index // (self.bins[0] * self.bins[1])
        counts = self.samples[roi].prod(dim=1)
        total = int(counts.sum())
        # One element per sampling point from here on: its bin, its RoI, its number within the bin.
        local = torch.repeat_interleave(index - first, counts, output_size=total)
        number = torch.arange(total, device=index.device) - (counts.cumsum(dim=0) - counts)[local]
        index, roi = index[local], roi[local]
        per_y, per_x = self.samples[roi].unbind(dim=1)
        low_y, high_y, ratio_y, inside_y = self._axis(
            0, roi, index // self.bins[1] % self.bins[0], number // per_x, per_y)
        low_x, high_x, ratio_x, inside_x = self._axis(
            1, roi, index % self.bins[1], number % per_x, per_x)

        row_low = (self.image[roi] * height + low_y) * width
        row_high = (self.image[roi] * height + high_y) * width
        pixel = torch.stack([row_low + low_x, row_low + high_x, row_high + low_x,
                             row_high + high_x], dim=1)
        weight = torch.stack([(1 - ratio_y) * (1 - ratio_x), (1 - ratio_y) * ratio_x,
                              ratio_y * (1 - ratio_x), ratio_y * ratio_x], dim=1)
        # Points outside the map count as zeros in the mean.
        share = (inside_y & inside_x).to(weight.dtype) / (per_y * per_x)
        return pixel, weight * share[:, None], counts

    def by_axes(self, maps: Tensor) -> Tensor:
        """The bins of all RoIs, as a product of matrices: a bilinear sample is a sum over rows and columns.

        For masks, which have one channel and large RoIs with a point per pixel, this is many times faster
        than one point after the other.

        Args:
            maps (Tensor): Has shape (B, C, H, W).

        Returns:
            Tensor: Has shape (R, C, *bins).
        """
        rows = []
        for roi, image in enumerate(self.image.tolist()):
            (top, bottom, vertical), (left, right, horizontal) = self._weights(0, roi), self._weights(1, roi)
            rows.append(vertical @ maps[image, :, top:bottom, left:right] @ horizontal.T)
        return torch.stack(rows)

    def _weights(self, axis: int, roi: int) -> Tuple[int, int, Tensor]:
        """First and last + 1 row (or column) that a RoI reads, and the weight of each in each bin."""
        samples = int(self.samples[roi, axis])
        bins = torch.arange(self.bins[axis], device=self.image.device)[:, None]
        number = torch.arange(samples, device=bins.device)
        low, high, ratio, inside = self._axis(
            axis, bins.new_tensor(roi), bins, number, number.new_tensor(samples))
        first, last = (int(low.min()), int(high.max()) + 1) if samples else (0, 0)
        share = inside.to(ratio.dtype) / max(samples, 1)
        weights = ratio.new_zeros(self.bins[axis], last - first)
        weights.scatter_add_(1, low - first, (1 - ratio) * share).scatter_add_(1, high - first, ratio * share)
        return first, last, weights

    def _axis(self, axis: int, roi: Tensor, cell: Tensor, number: Tensor,
              per_bin: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """The two pixels around each point along an axis, the second's share, and `inside`."""
        size = self.map_size[axis]
        bin_size = self.bin_size[roi, axis]
        # The order of the operations is mmcv's, so that float32 rounds in the same direction.
        position = (self.start[roi, axis] + cell * bin_size +
                    (number.to(bin_size.dtype) + 0.5) * bin_size / per_bin)
        # In this form NaN counts as inside and reaches the output.
        inside = ~((position < -1) | (position > size))
        position = position.clamp(0, size - 1)
        low = position.nan_to_num(0.0).floor()
        ratio = position - low
        low = low.long()
        return low, (low + 1).clamp(max=size - 1), ratio, inside


def _check_pool_mode(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' has no plain PyTorch version in deqdet: use "
            "pool_mode='avg' or an mmcv with compiled operators")


def _channels_last(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, C, H, W) as rows of channels, (N * H * W, C)."""
    return tensor.to(dtype).permute(0, 2, 3, 1).reshape(-1, tensor.size(1)).contiguous()


@torch.no_grad()
def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor,
                      argmax_x: Tensor, aligned_height: int, aligned_width: int,
                      spatial_scale: float, sampling_ratio: int, pool_mode: int,
                      aligned: bool) -> None:
    """RoIAlign: the mean of bilinear samples in each bin of a RoI.

    mmcv ``RoIAlign``; He et al. 2017, Mask R-CNN, section 3. An output bin is a weighted sum of map pixels,
    and a pixel's gradient is a weighted sum of output bins. Both are an `embedding_bag`, which needs no
    memory per sample and channel and adds in a fixed order.

    Args:
        input (Tensor): Feature maps, shape (B, C, H, W).
        rois (Tensor): RoIs (image index, x1, y1, x2, y2) in image pixels, shape (R, 5).
        output (Tensor): Receives the result, shape (R, C, aligned_height, aligned_width).
        argmax_y (Tensor): Unused; for max pooling.
        argmax_x (Tensor): Unused; for max pooling.
        aligned_height (int): Bins along y.
        aligned_width (int): Bins along x.
        spatial_scale (float): Map pixels per image pixel.
        sampling_ratio (int): Samples per bin and axis; 0 for one per map pixel, rounded up for each RoI.
        pool_mode (int): 1, the mean.
        aligned (bool): Shift coordinates by half a pixel; if not, RoIs have sides of at least a map pixel.

    Raises:
        NotImplementedError: If ``pool_mode`` is 0 (the maximum).
        IndexError: If a RoI names an image that is not in the batch.
    """
    _check_pool_mode(pool_mode)
    if output.numel() == 0:
        return
    dtype = working_dtype(input)
    grid = _RoIGrid.build(rois, dtype, input.size(0), (input.size(2), input.size(3)),
                          (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    if sampling_ratio <= 0 and input.size(1) <= _FEW_CHANNELS:
        output.copy_(grid.by_axes(input.to(dtype)))
        return
    pixels = _channels_last(input, dtype)
    rows = []
    for first, last in grid.chunks():
        pixel, weight, counts = grid.taps(first, last)
        offsets = F.pad(4 * counts.cumsum(dim=0), (1, 0))
        rows.append(F.embedding_bag(pixel.flatten(), pixels, offsets, mode='sum',
                                    per_sample_weights=weight.flatten(), include_last_offset=True))
    result = torch.cat(rows).view(len(rois), aligned_height, aligned_width, -1)
    output.copy_(result.permute(0, 3, 1, 2))


@torch.no_grad()
def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                       grad_input: Tensor, aligned_height: int, aligned_width: int,
                       spatial_scale: float, sampling_ratio: int, pool_mode: int,
                       aligned: bool) -> None:
    """Add the gradient of `roi_align_forward` with respect to the maps to ``grad_input``.

    Args:
        grad_output (Tensor): Gradient of the output, shape (R, C, aligned_height, aligned_width).
        rois (Tensor): As in `roi_align_forward`, without a gradient. So are the other arguments.
        grad_input (Tensor): Added to, shape (B, C, H, W).

    Raises:
        NotImplementedError: If ``pool_mode`` is 0 (the maximum).
        IndexError: If a RoI names an image that is not in the batch.
    """
    _check_pool_mode(pool_mode)
    if grad_output.numel() == 0:
        return
    dtype = working_dtype(grad_output)
    images, channels, height, width = grad_input.shape
    grid = _RoIGrid.build(rois, dtype, images, (height, width), (aligned_height, aligned_width),
                          spatial_scale, sampling_ratio, aligned)
    rows = _channels_last(grad_output, dtype)
    every_pixel = torch.arange(images * height * width + 1, device=rows.device)
    total: Any = 0
    for first, last in grid.chunks():
        pixel, weight, counts = grid.taps(first, last)
        # In the forward pass a bag is a bin of pixels; sorted by pixel, a bag is a pixel's bins.
        pixel, order = pixel.flatten().sort(stable=True)
        bin_of = torch.arange(first, last, device=rows.device).repeat_interleave(4 * counts)
        total = total + F.embedding_bag(
            bin_of[order], rows, torch.searchsorted(pixel, every_pixel), mode='sum',
            per_sample_weights=weight.flatten()[order], include_last_offset=True)
    grad_input.add_(total.view(images, height, width, channels).permute(0, 3, 1, 2))
