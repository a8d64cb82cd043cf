"""What a COCO annotation file says, as far as the checks need it."""

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, List

import numpy as np


@dataclass(frozen=True)
class DoubtfulBoxes:
    """Boxes that mmdet drops without a word.

    Attributes:
        total (int): Number of boxes in the file.
        without_size (int): Width or height below 1 pixel, zero or negative.
        outside (int): With a size, but without a pixel in common with the image.
        without_area (int): Neither, but the annotation's ``area`` is zero or negative.
        examples (dict[str, list]): Up to three annotation ids by the name of the attribute.
    """

    total: int
    without_size: int
    outside: int
    without_area: int
    examples: Dict[str, List[Any]]


@dataclass(frozen=True)
class AnnotationSummary:
    """What the checks need of an annotation file.

    Attributes:
        categories (list[dict]): Records with at least ``name``, in the file's order.
        boxes (DoubtfulBoxes): Boxes that will not be used.
    """

    categories: List[dict]
    boxes: DoubtfulBoxes


def summarise(ann_file: str) -> AnnotationSummary:
    """Read an annotation file; an unchanged file is read once.

    Args:
        ann_file (str): A local file in COCO's format.

    Returns:
        AnnotationSummary: Its categories and doubtful boxes.

    Raises:
        json.JSONDecodeError: If the file is not JSON.
    """
    return _summarise(str(ann_file), os.stat(ann_file).st_mtime_ns)


@lru_cache(maxsize=32)
def _summarise(ann_file, _changed):
    with open(ann_file, encoding='utf-8') as file:
        data = json.load(file)
    data = data if isinstance(data, dict) else {}
    categories = [category for category in data.get('categories', [])
                  if isinstance(category, dict) and 'name' in category]
    return AnnotationSummary(categories=categories, boxes=_find_doubtful_boxes(data))


def _find_doubtful_boxes(data):
    """Sort the boxes out as ``CocoDataset.parse_data_info`` does."""
    annotations = [annotation for annotation in data.get('annotations', [])
                   if len(annotation.get('bbox', ())) == 4]
    unknown = (np.inf, np.inf)
    sizes = {image['id']: (image.get('width', np.inf), image.get('height', np.inf))
             for image in data.get('images', [])}
    size = np.array([sizes.get(annotation.get('image_id'), unknown) for annotation in annotations],
                    dtype=float).reshape(-1, 2)
    boxes = np.array([annotation['bbox'] for annotation in annotations], dtype=float)
    corner, extent = np.split(boxes.reshape(-1, 4), 2, axis=1)
    area = np.array([annotation.get('area', np.inf) for annotation in annotations], dtype=float)
    overlap = np.minimum(corner + extent, size) - np.maximum(corner, 0)
    # "Not at least 1" instead of "below 1", so that NaN is caught as well.
    without_size = ~(extent >= 1).all(axis=1)
    outside = ~(overlap > 0).all(axis=1) & ~without_size
    without_area = ~(area > 0) & ~without_size & ~outside
    masks = dict(without_size=without_size, outside=outside, without_area=without_area)
    return DoubtfulBoxes(
        total=len(annotations),
        examples={name: [annotations[number].get('id') for number in np.flatnonzero(mask)[:3]]
                  for name, mask in masks.items()},
        **{name: int(mask.sum()) for name, mask in masks.items()})
