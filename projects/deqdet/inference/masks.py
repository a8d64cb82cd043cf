"""Masks of detections: run lengths (RLE) in memory and in files, polygons for annotation tools.

A boolean mask has a byte for each pixel of the image, so only one image's masks are kept in this form.
"""

from typing import Any, Dict, List

import cv2
import numpy as np
from mmdet.structures.mask import encode_mask_results
from mmengine.structures import InstanceData
from pycocotools import mask as coco_masks

#: COCO's run lengths: ``size``, (height, width), and ``counts``, a string.
RLE = Dict[str, Any]


def encode_masks(found: InstanceData) -> InstanceData:
    """Replace the masks of detections by their run lengths.

    Args:
        found (:obj:`InstanceData`): Detections, changed in place. Their ``masks`` are booleans, has shape
            (D, H, W), or a list of RLE, or missing.

    Returns:
        :obj:`InstanceData`: The same detections.
    """
    masks = found.get('masks')
    if masks is not None and not isinstance(masks, list):
        found.masks = [dict(size=[int(side) for side in rle['size']], counts=rle['counts'].decode())
                       for rle in encode_mask_results(np.asarray(masks.cpu()))]
    return found


def decode_mask(mask: Any) -> np.ndarray:
    """A mask as booleans, has shape (H, W), from RLE or a tensor."""
    values = coco_masks.decode(mask) if isinstance(mask, dict) else np.asarray(mask.cpu())
    return np.ascontiguousarray(values, dtype=bool)


def area_of(rle: RLE) -> int:
    """Number of pixels of a mask."""
    return int(coco_masks.area(rle))


def polygons_of(rle: RLE) -> List[List[int]]:
    """Polygons around the parts of a mask, along the edges of its pixels; holes are filled.

    Args:
        rle (dict): The mask.

    Returns:
        list[list[int]]: ``[x1, y1, x2, y2, ...]`` of each part; none for a mask without a pixel.
    """
    left, top, width, height = (int(side) for side in coco_masks.toBbox(rle))
    part = decode_mask(rle)[top:top + height, left:left + width]
    if not part.size:
        return []
    # OpenCV's outlines pass through the centres of pixels. In the doubled mask pixel i is 2i and 2i + 1,
    # which become its edges i and i + 1.
    doubled = part.repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)
    outlines, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for outline in outlines:
        corners = (outline.reshape(-1, 2) + 1) // 2 + (left, top)
        corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
        found.append(corners.flatten().tolist())
    return found
