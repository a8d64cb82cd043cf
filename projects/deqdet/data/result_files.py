"""Files of detections in COCO's format for results."""

import json
import math
from pathlib import Path
from typing import Collection, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..errors import UsageError
from .annotations import summarise
from .mask_fields import read_masks


def read_results(path: Path, annotations: Path, *, masks: bool = False) -> List[dict]:
    """Detections of a file, checked.

    Args:
        path (Path): COCO results: a list of ``image_id``, ``category_id``, ``score``, and ``bbox`` or
            ``segmentation``.
        annotations (Path): COCO annotations of the images.
        masks (bool): Whether masks are needed, not boxes.

    Raises:
        UsageError: If a file is missing or not in its format, or if the detections are of other images or
            classes.
    """
    for file in (path, annotations):
        if not file.is_file():
            raise UsageError(f'{file} is not a file' if file.exists() else
                             f'{file} does not exist (searched from {Path.cwd()})', 'missing-file')
    try:
        truth = summarise(str(annotations))
    except UsageError as error:
        raise UsageError(f'{error.message}; the file of annotations comes first, then those of detections',
                         error.code) from error
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise UsageError(f'{path} is not a JSON file ({error})', 'images-mismatch') from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UsageError(f'{path} is not a list of detections; use a file of tools/test.py with '
                         'test_evaluator.outfile_prefix, or of tools/detect.py with --annotations',
                         'images-mismatch')
    ids = [int(each) for each in truth.table.image_ids]
    sizes = {image: (int(height), int(width)) for image, (width, height) in zip(ids, truth.table.sizes)}
    faults = faults_of(found, ids, [each['id'] for each in truth.categories], sizes=sizes if masks else None)
    for number, fault in enumerate(faults):
        if fault:
            raise UsageError(f'{path} does not fit {annotations}: detection {number}: {fault}',
                             'images-mismatch')
    return found


def faults_of(detections: Sequence[Mapping], image_ids: Collection[int], category_ids: Collection[int], *,
              sizes: Optional[Mapping[int, Tuple[int, int]]] = None) -> Iterator[Optional[str]]:
    """What is wrong with each detection, None for a valid one.

    Args:
        detections (Sequence[Mapping]): ``image_id``, ``category_id``, ``bbox`` (x, y, w, h) in pixels of the
            original image or ``segmentation`` in compressed RLE, and ``score``.
        image_ids (Collection[int]): Images of the annotations.
        category_ids (Collection[int]): Ids of the classes.
        sizes (Mapping[int, tuple], optional): Height and width of the images; for masks instead of boxes.
    """
    images, categories = set(image_ids), set(category_ids)
    masks = read_masks(detections).faults if sizes is not None else {}
    for number, detection in enumerate(detections):
        yield _fault_of(detection, images, categories) or (
            _fault_of_box(detection.get('bbox')) if sizes is None else
            _fault_of_mask(detection, sizes, masks.get(number)))


def _fault_of(detection, images, categories) -> Optional[str]:
    image, category = detection.get('image_id'), detection.get('category_id')
    if type(image) is not int or image not in images:
        return f'image_id {image!r} is not in the image list'
    if type(category) is not int or category not in categories:
        return f'category_id {category!r} is not a category of the image list'
    score = detection.get('score')
    if not _is_finite(score) or not 0 <= score <= 1:
        return f'score {score} is not a number from 0 to 1'
    return None


def _fault_of_box(box) -> Optional[str]:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        return f'bbox {box} is not four finite numbers; check that the model was trained with finite losses'
    if min(box[2:]) < 0:
        return f'bbox {box} has a negative width or height'
    return None


def _fault_of_mask(detection, sizes, undecodable) -> Optional[str]:
    mask = detection.get('segmentation')
    if not isinstance(mask, dict) or not isinstance(mask.get('counts'), str):
        return f'segmentation {str(mask)[:40]} is not a compressed RLE'
    if undecodable:
        return f'its segmentation cannot be decoded: {undecodable}'
    height, width = sizes[detection['image_id']]
    if mask['size'] != [height, width]:
        return f'its mask has the size {mask["size"]} instead of {[height, width]}, that of the image'
    return None


def _is_finite(value) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
