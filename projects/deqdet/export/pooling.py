"""RoIAlign as one operator of a recorded program, and as one node of ONNX."""

from typing import Any, Callable, Dict

import torch
from mmcv.ops import roi_align
from torch import Tensor


@torch.library.custom_op('deqdet::roi_align', mutates_args=())
def pool(feature: Tensor, rois: Tensor, side: int, scale: float, samples: int, aligned: bool) -> Tensor:
    """Mean features in the cells of boxes, by mmcv's RoIAlign.

    Args:
        feature (Tensor): A feature level, has shape (B, C_f, H, W).
        rois (Tensor): (image, x1, y1, x2, y2), in pixels of the network's input, has shape (P, 5).
        side (int): Cells of a side, S.
        scale (float): Feature cells per pixel.
        samples (int): Samples of a cell along each side; 0 takes as many as the box has feature cells.
        aligned (bool): The centre of the first feature cell has the coordinate 0.5, not 0.

    Returns:
        Tensor: Has shape (P, C_f, S, S).
    """
    return roi_align(feature, rois, (side, side), scale, samples, 'avg', aligned)


@pool.register_fake
def _shape_of(feature, rois, side, scale, samples, aligned):
    return feature.new_empty(rois.shape[0], feature.shape[1], side, side)


def translations() -> Dict[Any, Callable]:
    """How torch's exporter writes the operator, for its ``custom_translation_table``."""
    from onnx import TensorProto
    from onnxscript import opset18
    op: Any = opset18

    def as_onnx(feature, rois, side, scale, samples, aligned):
        image = op.Cast(op.Squeeze(op.Slice(rois, [0], [1], [1]), [1]), to=TensorProto.INT64)
        return op.RoiAlign(
            feature, op.Slice(rois, [1], [5], [1]), image, mode='avg', output_height=side, output_width=side,
            sampling_ratio=samples, spatial_scale=scale,
            coordinate_transformation_mode='half_pixel' if aligned else 'output_half_pixel')

    return {torch.ops.deqdet.roi_align.default: as_onnx}
