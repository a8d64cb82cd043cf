"""The content of a COCO annotation file, as far as the checks need it."""

import json
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, Iterator, List, Optional, Set, Tuple

import numpy as np

from ..errors import UsageError
from .box_fields import of_another_mode, outlines, rotation_of
from .mask_fields import MaskTable, read_masks

# What a bbox with this many numbers probably is.
_WHAT_BOXES = {
    5: 'five numbers are a rotated box: write the upright box around it',
    8: 'eight numbers are the corners of a rotated box: write the upright box around them'}
_NO_BOX = 'use a file with boxes, not one of keypoints or captions'
# Files whose masks were asked for, with the time of their last change.
_WITH_MASKS: Set[Tuple[str, int]] = set()


@dataclass(frozen=True)
class AnnotationTable:
    """Images and annotations of a file as columns, in the file's order: M images, N annotations.

    Attributes:
        image_ids (np.ndarray): Integers, or objects if any id is no integer, has shape (M,).
        file_names (list[str]): M names.
        sizes (np.ndarray): Width and height in pixels, has shape (M, 2).
        ids (np.ndarray): Annotation ids, None where missing, has shape (N,).
        images (np.ndarray): Row of the image of each annotation, -1 if the file lacks it, has shape (N,).
        named_images (np.ndarray): ``image_id`` of each annotation, has shape (N,).
        category_ids (np.ndarray): Has shape (N,).
        boxes (np.ndarray): (x, y, width, height) in pixels, as in the file, has shape (N, 4).
        areas (np.ndarray): Pixels, NaN where there is no number, has shape (N,).
        has_area (np.ndarray): Whether there is a number, has shape (N,), bool.
        has_crowd (np.ndarray): Whether there is an ``iscrowd``, has shape (N,), bool.
        crowd (np.ndarray): Has shape (N,), bool.
        ignored (np.ndarray): ``ignore`` of the annotation, has shape (N,), bool.
        rotations (np.ndarray): Angle of the box as in the file, 0 if it has none, has shape (N,).
        other_mode (np.ndarray): Whether ``bbox_mode`` is not that of COCO, has shape (N,), bool.
        outlines (np.ndarray): Extents of polygons, NaN where there are none, has shape (N, 4).
    """

    image_ids: np.ndarray
    file_names: List[str]
    sizes: np.ndarray
    ids: np.ndarray
    images: np.ndarray
    named_images: np.ndarray
    category_ids: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    has_area: np.ndarray
    has_crowd: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    rotations: np.ndarray
    other_mode: np.ndarray
    outlines: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Annotations whose image is in the file, has shape (N,), bool."""
        return self.images >= 0

    @property
    def flat(self) -> np.ndarray:
        """Annotations of images whose width or height in the file is zero or less, has shape (N,)."""
        return np.append((self.sizes <= 0).any(axis=1), False)[self.images]

    @property
    def box_sizes(self) -> np.ndarray:
        """Width and height of the image of each annotation, infinite where unknown, has shape (N, 2)."""
        sizes = np.concatenate([self.sizes, [[np.inf, np.inf]]])
        return sizes[self.images]

    def doubtful(self) -> Dict[str, np.ndarray]:
        """Boxes that ``CocoDataset.parse_data_info`` does not use.

        Returns:
            dict[str, np.ndarray]: Masks of shape (N,); a box is in one of them at most: ``without_size``
                (width or height below 1 pixel), ``outside`` (no pixel in common with the image),
                ``without_area`` (``area`` zero or less) and ``without_image`` (the file lacks the image).
        """
        corner, extent = self.boxes[:, :2], self.boxes[:, 2:]
        overlap = np.minimum(corner + extent, self.box_sizes) - np.maximum(corner, 0)
        # "Not at least 1" instead of "below 1" also catches NaN.
        without_size = ~(extent >= 1).all(axis=1) & self.known
        outside = ~(overlap > 0).all(axis=1) & ~without_size & self.known
        # NaN is a number to Python, and mmdet keeps such a box. Without a number mmdet fails.
        without_area = (self.areas <= 0) & ~without_size & ~outside & self.known
        return dict(without_size=without_size, outside=outside, without_area=without_area,
                    without_image=~self.known)


@dataclass(frozen=True)
class AnnotationSummary:
    """What the checks need of an annotation file.

    Attributes:
        categories (list[dict]): Records with at least ``id`` and ``name``, in the file's order.
        table (AnnotationTable): Images and annotations.
        masks (MaskTable, optional): The masks, if they were asked for.
    """

    categories: List[dict]
    table: AnnotationTable
    masks: Optional[MaskTable] = None


def summarise(ann_file: str, *, masks: bool = False) -> AnnotationSummary:
    """Read an annotation file. The result is cached until the file changes.

    Args:
        ann_file (str): A local file in COCO's format.
        masks (bool): Read the masks, too. A file that was read without them before is read again.

    Returns:
        AnnotationSummary: Its categories, images and annotations.

    Raises:
        UsageError: If the file is not JSON, or not in COCO's format, or an annotation has no box.
    """
    version = str(ann_file), os.stat(ann_file).st_mtime_ns
    if masks:
        _WITH_MASKS.add(version)
    return _summarise(*version, version in _WITH_MASKS)


@lru_cache(maxsize=8)
def _summarise(ann_file, _changed, masks):
    with open(ann_file, encoding='utf-8') as file:
        try:
            data = json.load(file)
        except (ValueError, RecursionError) as error:
            raise UsageError(f'{ann_file} is not a JSON file ({error}); use a complete file in COCO\'s '
                             'annotation format', 'bad-annotations') from error
    fault = next(_faults(data), None)
    if fault:
        raise UsageError(f'{ann_file}: {fault}', 'bad-annotations')
    table = _table(data)
    return AnnotationSummary(
        categories=data.get('categories', []), table=table,
        masks=read_masks(data.get('annotations', [])) if masks else None)


def _faults(data) -> Iterator[str]:
    """Everything that would end in a traceback from mmdet, pycocotools or the code below.

    Later checks rely on earlier ones, so only the first fault counts.
    """
    if not isinstance(data, dict):
        yield (f"it is not in COCO's format: it contains a {type(data).__name__}, not a dict with images, "
               'annotations and categories')
    for part in ('images', 'annotations', 'categories'):
        records = data.get(part, [])
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            yield f"it is not in COCO's format: its {part} must be a list of dicts"
    if not data.get('images'):
        yield 'it has no images; check that it is the right file'
    for number, image in enumerate(data['images']):
        missing = [key for key in ('id', 'file_name', 'width', 'height') if image.get(key) is None]
        name = f'image number {number} ({image.get("file_name", "without file_name")})'
        if missing:
            hint = 'the size of the image file in pixels' if {'width', 'height'} & set(missing) else 'it'
            yield f'{name} has no {", ".join(missing)}; add {hint}'
        if not all(_is_number(image[key]) and math.isfinite(image[key]) for key in ('width', 'height')):
            yield (f'{name} has width {image["width"]!r} and height {image["height"]!r}: both must be '
                   'numbers, the size of the image file in pixels')
    for number, category in enumerate(data.get('categories', [])):
        missing = [key for key in ('id', 'name') if category.get(key) is None]
        if missing:
            yield (f'category number {number} ({category.get("name", "without name")}) has no '
                   f'{", ".join(missing)}; add it')
    for annotation in data.get('annotations', []):
        name, box = f'annotation {annotation.get("id")}', annotation.get('bbox')
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            yield (f'{name} has bbox {box!r} instead of four numbers [x, y, width, height]; '
                   f'{_WHAT_BOXES.get(len(box) if isinstance(box, list) else 0, _NO_BOX)}')
        for key in ('image_id', 'category_id'):
            if annotation.get(key) is None:
                yield f'{name} has no {key}; add it'
        if annotation.get('iscrowd', 0) not in (0, 1):
            yield f'{name} has iscrowd {annotation["iscrowd"]!r}: it must be 0 or 1'
    yield from _faults_of_values(data)


def _faults_of_values(data) -> Iterator[str]:
    """Ids that cannot be looked up and sorted, and names that cannot be joined to paths."""
    images, categories, annotations = (data.get(part, []) for part in ('images', 'categories', 'annotations'))
    for what, values in (
            ('image ids', [image['id'] for image in images]),
            ('image_id of annotations', [annotation['image_id'] for annotation in annotations]),
            ('category ids', [category['id'] for category in categories]),
            ('category_id of annotations', [annotation['category_id'] for annotation in annotations]),
            ('annotation ids', [annotation['id'] for annotation in annotations
                                if annotation.get('id') is not None])):
        strings = [value for value in values if isinstance(value, str)]
        others = [value for value in values if not isinstance(value, str)]
        odd = [value for value in others if not _is_number(value) or value != value] or (
            strings if others else [])
        if odd:
            yield f'{what} must be only numbers, or only strings; one is {odd[0]!r}'
    for what, values in (('file_name of an image', [image['file_name'] for image in images]),
                         ('name of a category', [category['name'] for category in categories])):
        odd = [value for value in values if not isinstance(value, str)]
        if odd:
            yield f'the {what} is {odd[0]!r}: it must be a string'


def _is_number(value):
    """Whether a value is a number that fits into a float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and (
        isinstance(value, float) or abs(value) < 2**1023)


def _table(data):
    images, annotations = data['images'], data.get('annotations', [])
    # If two images have the same id, the last one counts, as in pycocotools.
    rows = {image['id']: row for row, image in enumerate(images)}
    areas = [annotation.get('area') for annotation in annotations]
    has_area = np.array([_is_number(area) for area in areas], dtype=bool)
    return AnnotationTable(
        image_ids=_ids([image['id'] for image in images]),
        file_names=[str(image['file_name']) for image in images],
        sizes=np.array([(image['width'], image['height']) for image in images], dtype=float),
        ids=_ids([annotation.get('id') for annotation in annotations]),
        images=np.array([rows.get(annotation['image_id'], -1) for annotation in annotations], dtype=int),
        named_images=_ids([annotation['image_id'] for annotation in annotations]),
        category_ids=_ids([annotation['category_id'] for annotation in annotations]),
        boxes=np.array([annotation['bbox'] for annotation in annotations], dtype=float).reshape(-1, 4),
        areas=np.array([area if known else np.nan for area, known in zip(areas, has_area)], dtype=float),
        has_area=has_area,
        has_crowd=np.array(['iscrowd' in annotation for annotation in annotations], dtype=bool),
        crowd=np.array([bool(annotation.get('iscrowd')) for annotation in annotations], dtype=bool),
        ignored=np.array([bool(annotation.get('ignore')) for annotation in annotations], dtype=bool),
        rotations=np.array([rotation_of(annotation) for annotation in annotations], dtype=float),
        other_mode=np.array([of_another_mode(annotation) for annotation in annotations], dtype=bool),
        outlines=outlines(annotations))


def _ids(values):
    """Ids as a column: integers if all ids are integers, which takes a fifth of the memory."""
    if all(type(value) is int and abs(value) < 2**63 for value in values):
        return np.array(values, dtype=np.int64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
