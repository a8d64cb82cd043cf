"""Masks of detections as maps of probabilities: in a file, in PyTorch, and pasted into images."""

from typing import Any, Sequence, Tuple

import numpy as np
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..model.masks import DeCoupleHead, MaskHead, WarpedEfficientDynamicMaskHead
from .pooling import pool

#: Kinds of maps, in the metadata of a file: inside the boxes, or of the whole input.
IN_BOXES, OF_IMAGE = 'boxes', 'image'

# Probabilities of a map are between these when it is enlarged as logits.
_SURE = 1e-7


def kind_of(head: MaskHead) -> str:
    """The kind of a mask head's maps.

    Raises:
        UsageError: If its masks cannot be exported.
    """
    if isinstance(head, DeCoupleHead):
        return OF_IMAGE
    name = type(head).__name__
    if not isinstance(head, WarpedEfficientDynamicMaskHead):
        raise UsageError(f'mask_head.type={name} cannot be exported: use --no-masks, which writes only boxes',
                         'export-unsupported')
    extractor = head.mask_roi_extractor
    if type(extractor) is not SingleRoIExtractor or not all(
            type(layer) is RoIAlign and layer.pool_mode == 'avg' for layer in extractor.roi_layers):
        raise UsageError(f'mask_head.type={name} with this mask_roi_extractor cannot be exported: use '
                         "SingleRoIExtractor with RoIAlign and pool_mode='avg', or --no-masks, which writes "
                         'only boxes',
                         'export-unsupported')
    return IN_BOXES


class Masks(nn.Module):
    """Maps of detections as a function of tensors.

    Args:
        head (MaskHead): The mask head.

    Raises:
        UsageError: If it cannot be exported.
    """

    def __init__(self, head: MaskHead) -> None:
        super().__init__()
        self.head: Any = head
        self.kind = kind_of(head)

    def forward(self, features: Sequence[Tensor], content: Tensor, box: Tensor, labels: Tensor) -> Tensor:
        """Probabilities of D detections of each image.

        Args:
            features (Sequence[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l).
            content (Tensor): Contents of their queries, has shape (B, D, C).
            box (Tensor): Boxes in pixels of the network's input, has shape (B, D, 4).
            labels (Tensor): Classes, has shape (B, D).

        Returns:
            Tensor: Inside the boxes, has shape (B, D, S, S), or of the whole input, has shape
            (B, D, H_0, W_0).
        """
        if self.kind == OF_IMAGE:
            return self.head(features, content, box).sigmoid()
        images, count = labels.shape
        image = torch.arange(images, device=box.device)[:, None, None].to(box.dtype).expand(-1, count, 1)
        rois = torch.cat([image, box], dim=-1).flatten(0, 1)
        content = content[..., :self.head.in_channels].flatten(0, 1)
        logits = self.head(self._pooled(features, rois), content)
        chosen = labels.flatten()[:, None, None, None].expand(-1, 1, *logits.shape[-2:])
        return logits.gather(1, chosen)[:, 0].sigmoid().unflatten(0, (images, count))

    def _pooled(self, features, rois) -> Tensor:
        """The extractor's result, by pooling from all levels: a file cannot choose a level for each box."""
        extractor = self.head.mask_roi_extractor
        levels = extractor.map_roi_levels(rois, extractor.num_inputs)[:, None, None, None]
        pooled = None
        for number, (layer, feature) in enumerate(zip(extractor.roi_layers, features)):
            each = pool(feature, rois, layer.output_size[0], layer.spatial_scale, layer.sampling_ratio,
                        layer.aligned)
            pooled = each if pooled is None else torch.where(levels == number, each, pooled)
        assert pooled is not None
        return pooled


def probabilities(head: Any, features: Sequence[Tensor], content: Tensor, box: Tensor, labels: Tensor
                  ) -> Tensor:
    """Maps of D detections of one image by the mask head's own functions, not in the recorded form.

    Args:
        head (MaskHead): The mask head.
        features (Sequence[Tensor]): Feature levels of the image, has shape (1, C_f, H_l, W_l).
        content, box, labels: See :class:`Masks`, without B.

    Returns:
        Tensor: See :class:`Masks`, without B.
    """
    if kind_of(head) == OF_IMAGE:
        return head([level[0] for level in features], content, box).sigmoid()
    maps = head.maps(head.roi_features(features, torch.zeros_like(labels), box), content)
    return maps[torch.arange(len(labels)), labels].sigmoid()


def paste(kind: str, maps: np.ndarray, boxes: np.ndarray, *, padded: Tuple[int, int], size: Tuple[int, int],
          shape: Tuple[int, int], threshold: float) -> np.ndarray:
    """Masks of an image from maps.

    Args:
        kind (str): ``IN_BOXES`` or ``OF_IMAGE``.
        maps (np.ndarray): Probabilities, has shape (D, h, w).
        boxes (np.ndarray): Boxes in pixels of the original image, has shape (D, 4).
        padded (tuple[int, int]): Height and width of the network's input.
        size (tuple[int, int]): Height and width of the image in the network's input, without padding.
        shape (tuple[int, int]): Height and width of the original image.
        threshold (float): Probability above which a pixel belongs to the object.

    Returns:
        np.ndarray: Booleans, has shape (D, H, W).
    """
    if kind == IN_BOXES:
        return np.array([_in_box(one, box, shape) > threshold for one, box in zip(maps, boxes)],
                        dtype=bool).reshape(-1, *shape)
    # As in the mask head: the logits are enlarged, not the probabilities.
    logits = torch.from_numpy(maps).clamp(_SURE, 1 - _SURE).logit()[None]
    for wanted, kept in ((padded, size), (shape, shape)):
        logits = F.interpolate(logits, size=tuple(wanted), mode='bilinear', align_corners=False)
        logits = logits[..., :kept[0], :kept[1]]
    return (logits[0].sigmoid() > threshold).numpy()


def _in_box(one: np.ndarray, box: np.ndarray, shape: Tuple[int, int]) -> np.ndarray:
    """A map enlarged to its box, bilinear, with 0 outside."""
    (left, top, right, bottom), (rows, columns) = box, one.shape
    return (_weights(shape[0], top, bottom, rows) @ one) @ _weights(shape[1], left, right, columns).T


def _weights(pixels: int, start: float, end: float, cells: int) -> np.ndarray:
    """Weight of each cell between start and end in each pixel, has shape (pixels, cells)."""
    place = (np.arange(pixels) + 0.5 - start) * (cells / max(end - start, 1e-3)) - 0.5
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))).astype(np.float32)
