"""What a COCO annotation file says, read without parsing all of it.

A file of COCO's size (450 MB, most of it polygons) takes a JSON parser half a minute; the few
fields that the checks need are picked out of the text in seconds. Where a file is not written in
the usual way, it is parsed as a whole.
"""

import json
import mmap
import re
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

_BOX = re.compile(rb'"bbox"\s*:\s*\[([^\[\]{}"]*)\]')
_AREA = re.compile(rb'"area"\s*:\s*([-+.eE0-9]+)')
_IMAGE_ID = re.compile(rb'"image_id"\s*:\s*(-?\d+)\b')
_DECODER = json.JSONDecoder()

# Characters after the box of an annotation; only an example's id is lost if there are more.
_LONGEST_RECORD = 1_000_000


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


def read_categories(ann_file: str) -> List[dict]:
    """The categories of an annotation file, in the file's order.

    Args:
        ann_file (str): A local file in COCO's format.

    Returns:
        list[dict]: Records with at least ``name``; empty if the file has none.

    Raises:
        json.JSONDecodeError: If the file is not JSON.
    """
    with _mapped(ann_file) as text:
        categories = _read_list(text, b'"categories"')
    if categories is None:
        categories = _parse(ann_file).get('categories', [])
    return [category for category in categories
            if isinstance(category, dict) and 'name' in category]


def find_doubtful_boxes(ann_file: str) -> DoubtfulBoxes:
    """Look for boxes without size, outside their image, or with a wrong ``area``.

    Args:
        ann_file (str): A local file in COCO's format.

    Returns:
        DoubtfulBoxes: How many there are, and examples.

    Raises:
        json.JSONDecodeError: If the file is not JSON.
    """
    with _mapped(ann_file) as text:
        boxes = _scan(text)
        if boxes is not None:
            return _judge(boxes, lambda number: _nth_annotation_id(text, number))
    data = _parse(ann_file)
    annotations = [annotation for annotation in data.get('annotations', [])
                   if len(annotation.get('bbox', ())) == 4]
    boxes = _Boxes(
        images=data.get('images', []),
        image_ids=[annotation.get('image_id') for annotation in annotations],
        xywh=np.array([annotation['bbox'] for annotation in annotations]),
        areas=np.array([annotation.get('area', np.inf) for annotation in annotations]))
    return _judge(boxes, lambda number: annotations[number].get('id'))


class _Boxes(NamedTuple):
    """Boxes of a file, one row each: image id, (x, y, w, h), ``area``."""

    images: List[dict]
    image_ids: List[Any]
    xywh: np.ndarray
    areas: np.ndarray


def _judge(boxes, annotation_id):
    """Sort the boxes out as ``CocoDataset.parse_data_info`` does."""
    sizes = {image['id']: (image.get('width', np.inf), image.get('height', np.inf))
             for image in boxes.images}
    unknown = (np.inf, np.inf)
    size = np.array([sizes.get(image_id, unknown) for image_id in boxes.image_ids],
                    dtype=float).reshape(-1, 2)
    corner, extent = np.split(boxes.xywh.astype(float).reshape(-1, 4), 2, axis=1)
    overlap = np.minimum(corner + extent, size) - np.maximum(corner, 0)
    # "Not at least 1" instead of "below 1", so that NaN is caught as well.
    without_size = ~(extent >= 1).all(axis=1)
    outside = ~(overlap > 0).all(axis=1) & ~without_size
    without_area = ~(boxes.areas > 0) & ~without_size & ~outside
    masks = dict(without_size=without_size, outside=outside, without_area=without_area)
    return DoubtfulBoxes(
        total=len(boxes.image_ids),
        examples={name: [annotation_id(int(number)) for number in np.flatnonzero(mask)[:3]]
                  for name, mask in masks.items()},
        **{name: int(mask.sum()) for name, mask in masks.items()})


def _mapped(path):
    with open(path, 'rb') as file:
        if file.seek(0, 2) == 0:
            raise json.JSONDecodeError('the file is empty', '', 0)
        return closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _parse(path):
    with open(path, encoding='utf-8') as file:
        data = json.load(file)
    return data if isinstance(data, dict) else {}


def _read_list(text, key) -> Optional[List[dict]]:
    """The list of records under a key of the outermost object; None if it is not to be found."""
    for match in re.finditer(re.escape(key) + rb'\s*:\s*(?=\[\s*[{\]])', text):
        # The lists come one after the other: up to the next one's key is enough, mostly.
        for other in (b'"annotations"', b'"categories"', b'"images"', None):
            end = len(text) if other is None else text.find(other, match.end())
            try:
                if end > 0:
                    return _DECODER.raw_decode(text[match.end():end].decode('utf-8'))[0]
            except (json.JSONDecodeError, UnicodeDecodeError):
                continue
    return None


def _scan(text) -> Optional[_Boxes]:
    """Picks the boxes out of the text; None if it does not pair boxes and images plainly."""
    images = _read_list(text, b'"images"')
    boxes, image_ids, areas = (pattern.findall(text) for pattern in (_BOX, _IMAGE_ID, _AREA))
    if images is None or len(boxes) != len(image_ids):
        return None
    try:
        # The JSON parser reads numbers several times as fast as numpy does.
        boxes, image_ids, areas = (json.loads(b'[%s]' % b','.join(numbers))
                                   for numbers in (boxes, image_ids, areas))
    except json.JSONDecodeError:
        return None
    if len(boxes) != 4 * len(image_ids):
        return None
    if len(areas) != len(image_ids):
        # Images have areas too here, and which is whose is not known.
        areas = [np.inf] * len(image_ids)
    return _Boxes(images=images, image_ids=image_ids, xywh=np.array(boxes), areas=np.array(areas))


def _nth_annotation_id(text, number):
    """Id of the annotation that holds the n-th box."""
    position = next(islice(_BOX.finditer(text), number, None)).start()
    start = position
    # A run-length mask puts another opening brace before the box.
    for _ in range(8):
        start = text.rfind(b'{', 0, start)
        if start < 0:
            break
        record = text[start:position + _LONGEST_RECORD].decode('utf-8', errors='ignore')
        try:
            annotation = _DECODER.raw_decode(record)[0]
        except json.JSONDecodeError:
            continue
        if 'bbox' in annotation:
            return annotation.get('id')
    return None
