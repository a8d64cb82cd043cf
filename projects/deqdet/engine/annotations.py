"""What a COCO annotation file says, as far as the checks need it."""

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, List

import numpy as np

from ..errors import UsageError


@dataclass(frozen=True)
class DoubtfulBoxes:
    """Boxes that mmdet drops without a word.

    Attributes:
        total (int): Number of boxes in the file.
        without_size (int): Width or height below 1 pixel, zero or negative.
        outside (int): With a size, but without a pixel in common with the image.
        without_area (int): Neither, but the annotation's ``area`` is zero or negative.
        without_image (int): With a box, but the file has no image of their ``image_id``.
        examples (dict[str, list]): Up to three annotation ids by the name of the attribute.
    """

    total: int
    without_size: int
    outside: int
    without_area: int
    without_image: int
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
        UsageError: If it is not in COCO's format, or an annotation has no box.
    """
    return _summarise(str(ann_file), os.stat(ann_file).st_mtime_ns)


@lru_cache(maxsize=32)
def _summarise(ann_file, _changed):
    with open(ann_file, encoding='utf-8') as file:
        data = json.load(file)
    _check_format(data, ann_file)
    categories = [category for category in data.get('categories', [])
                  if isinstance(category, dict) and 'name' in category]
    return AnnotationSummary(categories=categories, boxes=_find_doubtful_boxes(data))


def _check_format(data, ann_file):
    """Everything that would end in a traceback from mmdet or pycocotools, or from the sorting below."""
    if not isinstance(data, dict):
        raise UsageError(f'{ann_file} is not in COCO\'s format: it holds a {type(data).__name__}, not a '
                         'dict with images, annotations and categories')
    for part in ('images', 'annotations', 'categories'):
        records = data.get(part, [])
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise UsageError(f'{ann_file} is not in COCO\'s format: its {part} must be a list of dicts')
    if not data.get('images'):
        raise UsageError(f'{ann_file} has no images: is it the right file?')
    for number, image in enumerate(data['images']):
        missing = [key for key in ('id', 'file_name', 'width', 'height') if image.get(key) is None]
        if missing:
            name = image.get('file_name', 'without file_name')
            raise UsageError(f'{ann_file}: image number {number} ({name}) has no {", ".join(missing)}')
    for annotation in data.get('annotations', []):
        box = annotation.get('bbox')
        if not isinstance(box, list) or len(box) != 4 or not all(
                isinstance(value, (int, float)) for value in box):
            raise UsageError(f'{ann_file}: annotation {annotation.get("id")} has no bbox of four numbers '
                             f'[x, y, width, height] but {box!r}; is it a file of keypoints or captions?')
        for key in ('image_id', 'category_id'):
            if annotation.get(key) is None:
                raise UsageError(f'{ann_file}: annotation {annotation.get("id")} has no {key}')


def _find_doubtful_boxes(data):
    """Sort the boxes out as ``CocoDataset.parse_data_info`` does."""
    annotations = data.get('annotations', [])
    sizes = {image['id']: (image['width'], image['height']) for image in data['images']}
    without_image = np.array([annotation['image_id'] not in sizes for annotation in annotations], dtype=bool)
    size = np.array([sizes.get(annotation['image_id'], (np.inf, np.inf)) for annotation in annotations],
                    dtype=float).reshape(-1, 2)
    boxes = np.array([annotation['bbox'] for annotation in annotations], dtype=float)
    corner, extent = np.split(boxes.reshape(-1, 4), 2, axis=1)
    area = np.array([annotation.get('area', np.inf) for annotation in annotations], dtype=float)
    overlap = np.minimum(corner + extent, size) - np.maximum(corner, 0)
    # "Not at least 1" instead of "below 1", so that NaN is caught as well.
    without_size = ~(extent >= 1).all(axis=1) & ~without_image
    outside = ~(overlap > 0).all(axis=1) & ~without_size & ~without_image
    without_area = ~(area > 0) & ~without_size & ~outside & ~without_image
    masks = dict(without_size=without_size, outside=outside, without_area=without_area,
                 without_image=without_image)
    return DoubtfulBoxes(
        total=len(annotations),
        examples={name: [annotations[number].get('id') for number in np.flatnonzero(mask)[:3]]
                  for name, mask in masks.items()},
        **{name: int(mask.sum()) for name, mask in masks.items()})
