"""NMS and focal loss of mmcv in plain PyTorch; RoIAlign is in `roi_align.py`.

The functions take the arguments of those in mmcv's compiled module ``mmcv._ext`` and follow its CUDA kernels
(mmcv 2.x, ``mmcv/ops/csrc/common/cuda``). float64 is computed in float64, every other dtype in float32.
"""

import functools
from typing import Callable, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..dtypes import working_dtype

# Boxes that NMS compares with all others at once.
_NMS_BLOCK = 256


@functools.cache
def _torchvision_nms(device_type: str) -> Optional[Callable]:
    """torchvision's NMS, or None if none works on this kind of device."""
    try:
        from torchvision.ops import nms as compiled_nms
        # A torchvision for another torch, or without CUDA, may fail only when it is called.
        boxes = torch.zeros(1, 4, device=device_type)
        compiled_nms(boxes, boxes[:, 0], 0.5)
    except Exception:
        return None
    return compiled_nms


def _pairwise_iou(boxes1: Tensor, boxes2: Tensor, offset: int) -> Tensor:
    """IoU of every box of the first set, (M, 4), with every box of the second, (N, 4): (M, N).

    Two boxes without area have 0 / 0 = NaN, which exceeds no threshold, as in mmcv.
    """
    low = torch.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
    high = torch.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    inter = (high - low + offset).clamp_(min=0).prod(dim=-1)
    area1 = (boxes1[:, 2:] - boxes1[:, :2] + offset).prod(dim=-1)
    area2 = (boxes2[:, 2:] - boxes2[:, :2] + offset).prod(dim=-1)
    return inter / (area1[:, None] + area2[None, :] - inter)


@torch.no_grad()
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression (mmcv ``nms``).

    Args:
        boxes (Tensor): Boxes (x1, y1, x2, y2), shape (N, 4).
        scores (Tensor): Scores, shape (N, ).
        iou_threshold (float): A box is dropped if its IoU with a kept box of higher score is greater.
        offset (int): Width and height of a box are x2 - x1 + offset and y2 - y1 + offset.

    Returns:
        Tensor: Indices of kept boxes by falling score, equal ones in the order of input, int64, shape (K, ).
    """
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    boxes = boxes.to(working_dtype(boxes))
    # mmcv takes the threshold as a float; an IoU equal to that float does not exceed it.
    iou_threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    compiled_nms = _torchvision_nms(boxes.device.type) if offset == 0 else None
    if compiled_nms is not None:
        return compiled_nms(boxes, scores.to(boxes.dtype), iou_threshold)
    order = scores.sort(descending=True, stable=True).indices
    kept = []
    while len(order):
        # The best boxes of those left: first among themselves, then those that they drop from the others.
        overlaps = _pairwise_iou(boxes[order[:_NMS_BLOCK]], boxes[order], offset) > iou_threshold
        first = _greedy(overlaps[:, :_NMS_BLOCK])
        kept.append(order[:_NMS_BLOCK][first])
        order = order[_NMS_BLOCK:][~overlaps[first, _NMS_BLOCK:].any(0)]
    return torch.cat(kept)


def _greedy(overlaps: Tensor) -> Tensor:
    """Which boxes stay, in falling order of scores, by who overlaps whom, (N, N): (N, ) booleans."""
    drops = overlaps.cpu().numpy()
    stays = np.ones(len(drops), dtype=bool)
    for box in range(len(drops)):
        if stays[box]:
            stays[box + 1:] &= ~drops[box, box + 1:]
    return torch.from_numpy(stays).to(overlaps.device)


def _focal_terms(input: Tensor, target: Tensor,
                 weight: Tensor) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Logits in the working dtype, a mask of the target class, and each row's weight."""
    classes = input.size(1)
    logit = input.to(working_dtype(input))
    positive = target[:, None] == torch.arange(classes, device=target.device)
    if weight.numel() == 0:
        return logit, positive, None
    # mmcv reads past the end of `weight` for background; here its weight is 1.
    row_weight = weight.to(logit.dtype)[target.clamp(0, classes - 1)]
    background = (target < 0) | (target >= classes)
    return logit, positive, row_weight.masked_fill(background, 1.0)[:, None]


@torch.no_grad()
def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor,
                               gamma: float, alpha: float) -> None:
    """Focal loss of each logit.

    mmcv ``sigmoid_focal_loss``; Lin et al. 2017, Focal Loss for Dense Object Detection, section 3. mmcv's
    kernel takes the logarithm of a rounded 1 - p. This one is exact also if a logit is large on the wrong
    side: a negative at 30 costs (1 - alpha) * 30, not (1 - alpha) * 87.

    Args:
        input (Tensor): Logits, shape (N, C).
        target (Tensor): Class of each row, int64, shape (N, ); C, or any value out of range, for background.
        weight (Tensor): Weight of each class, shape (C, ), which scales the rows of that class; or empty.
        output (Tensor): Receives the loss, shape (N, C).
        gamma (float): Focusing exponent.
        alpha (float): Weight of the positive term; the negative one has 1 - alpha.
    """
    logit, positive, row_weight = _focal_terms(input, target, weight)
    loss = torch.where(positive,
                       -alpha * torch.sigmoid(-logit).pow(gamma) * F.logsigmoid(logit),
                       (alpha - 1) * torch.sigmoid(logit).pow(gamma) * F.logsigmoid(-logit))
    output.copy_(loss if row_weight is None else loss * row_weight)


@torch.no_grad()
def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor,
                                gamma: float, alpha: float) -> None:
    """Derivative of each element of `sigmoid_focal_loss_forward` with respect to its logit.

    Args:
        input (Tensor): As in `sigmoid_focal_loss_forward`. So are the other arguments.
        grad_input (Tensor): Receives the derivatives, shape (N, C).
    """
    logit, positive, row_weight = _focal_terms(input, target, weight)
    p, q = torch.sigmoid(logit), torch.sigmoid(-logit)
    grad = torch.where(positive,
                       -alpha * q.pow(gamma) * (q - gamma * p * F.logsigmoid(logit)),
                       (alpha - 1) * p.pow(gamma) * (gamma * q * F.logsigmoid(-logit) - p))
    grad_input.copy_(grad if row_weight is None else grad * row_weight)
