"""Result files for other tools: COCO's JSON, and CSV."""

import base64
import csv
import json
import os
import posixpath
import unicodedata
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from ..data.findings import some_of
from ..errors import UsageError, shown_name
from ..files.atomic import written_aside
from ..model.heads.warm_start import Equilibrium
from .masks import RLE, area_of, encode_masks, polygons_of

Records = Callable[[], Iterable[Dict[str, Any]]]

_COLUMNS = ('file', 'class', 'score', 'x1', 'y1', 'x2', 'y2')
_VIDEO_COLUMNS = ('file', 'frame', 'refinements', *_COLUMNS[1:])


def record_of(sample: DetDataSample, **extra: Any) -> Dict[str, Any]:
    """Detections for JSON, at full precision. ``masks`` are the ``counts`` of COCO's RLE.

    Args:
        sample (:obj:`DetDataSample`): Has ``pred_instances`` and ``ori_shape``.
        **extra: Further entries of the record.
    """
    found = encode_masks(sample.pred_instances.new())
    # JSON has no NaN, which untrained weights may give.
    found = found[found.bboxes.isfinite().all(1) & found.scores.isfinite()]
    height, width = sample.ori_shape[:2]
    record: Dict[str, Any] = dict(
        **extra, width=int(width), height=int(height), labels=found.labels.tolist(),
        scores=found.scores.tolist(), bboxes=found.bboxes.tolist())
    if 'masks' in found:
        record.update(masks=[rle['counts'] for rle in found.masks])
    if 'mask_scores' in found:
        record.update(mask_scores=found.mask_scores.nan_to_num().tolist())
    return record


def sample_of(record: Dict[str, Any]) -> DetDataSample:
    """A sample for drawing, from its record."""
    sample = DetDataSample(metainfo=dict(ori_shape=(record['height'], record['width'])))
    sample.pred_instances = InstanceData(
        labels=torch.tensor(record['labels'], dtype=torch.long), scores=torch.tensor(record['scores']),
        bboxes=torch.tensor(record['bboxes']).reshape(-1, 4))
    if 'masks' in record:
        sample.pred_instances.masks = _masks(record)
    return sample


def pack(equilibrium: Optional[Equilibrium]) -> Optional[Dict[str, Any]]:
    """An equilibrium for JSON, exact to the bit."""
    if equilibrium is None:
        return None
    parts = {name: dict(shape=list(part.shape), float32=base64.b64encode(
        part.detach().float().cpu().numpy().tobytes()).decode())
        for name, part in (('position', equilibrium.position), ('content', equilibrium.content))}
    return dict(**parts, shape=list(equilibrium.shape), flips=list(equilibrium.flips),
                refinements=equilibrium.refinements)


def unpack(packed: Optional[Dict[str, Any]], device: torch.device) -> Optional[Equilibrium]:
    """The inverse of :func:`pack`."""
    if packed is None:
        return None
    parts = {}
    for name in ('position', 'content'):
        numbers = np.frombuffer(base64.b64decode(packed[name]['float32']), dtype=np.float32)
        parts[name] = torch.from_numpy(numbers.reshape(packed[name]['shape']).copy()).to(device)
    return Equilibrium(**parts, shape=tuple(packed['shape']), flips=tuple(packed['flips']),
                       refinements=packed['refinements'])


class Annotations(NamedTuple):
    """Ids of an annotation file in COCO's format.

    Attributes:
        path (str): The file.
        images (dict[str, list]): Image ids by file name in the form of :func:`plain_path`.
        categories (list[int]): Category id of each class.
    """

    path: str
    images: Dict[str, List[int]]
    categories: List[int]

    def image_id(self, path: str) -> Optional[int]:
        """Id of the image whose name is the longest end of a path, or None; a UsageError for several ids."""
        parts = plain_path(path).split('/')
        # Names outside the folder come last: a file with both "a.png" and "../a.png" means two images.
        names = (above + '/'.join(parts[first:]) for above in ('', '../') for first in range(len(parts)))
        ids = next((self.images[name] for name in names if name in self.images), [])
        if len(set(ids)) > 1:
            raise UsageError(f'--annotations {self.path} lists {path} under several ids '
                             f'({some_of(ids, 3)}): list each image once', 'bad-annotations')
        return ids[0] if ids else None


def plain_path(name: str) -> str:
    """A path in a form for comparison: ``./a//b/../c.png`` becomes ``a/c.png``. Its case is kept.

    Args:
        name (str): A path, absolute or below a folder. Any number of leading ``..`` becomes one ``../``.
    """
    parts = posixpath.normpath(unicodedata.normalize('NFC', name.replace(os.sep, '/'))).split('/')
    inner = '/'.join(part for part in parts if part not in ('', '..'))
    return f'../{inner}' if parts[0] == '..' else inner


def read_annotations(path: str, classes: Sequence[str]) -> Annotations:
    """Image and category ids of an annotation file.

    Args:
        path (str): JSON file in COCO's format.
        classes (Sequence[str]): Class names, in the order of the labels.

    Raises:
        UsageError: If it is unreadable or lacks a class.
    """
    images: Dict[str, List[int]] = {}
    try:
        data = json.loads(Path(path).read_text(encoding='utf-8'))
        for image in data['images']:
            images.setdefault(plain_path(image['file_name']), []).append(image['id'])
        ids = {category['name']: category['id'] for category in data['categories']}
    except OSError as error:
        raise UsageError(f'--annotations {path}: cannot be read ({error.strerror})',
                         'missing-file') from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--annotations {path}: not an annotation file in COCO's format "
                         f'({type(error).__name__}: {error})', 'bad-annotations') from error
    missing = [name for name in classes if name not in ids]
    if missing:
        raise UsageError(f'--annotations {path}: categories {some_of(missing)} of the model are missing',
                         'classes-mismatch')
    return Annotations(path, images, [ids[name] for name in classes])


def write_coco_results(path: Path, records: Records, ids: Annotations, *, writer: str = '') -> None:
    """Write the list of boxes that COCO's server and ``COCO.loadRes`` read.

    Args:
        path (Path): The file.
        records (Callable): Returns the records; it may be called several times.
        ids (Annotations): Ids of images and categories.
        writer (str): Distinguishes processes that may write the same file at the same time.
    """
    with written_aside(path, writer=writer) as aside, open(aside, 'w', encoding='utf-8') as file:
        file.write('[')
        _write_items(file, (
            dict(image_id=ids.image_id(record['input']), category_id=ids.categories[label], bbox=box,
                 score=score)
            for record in records() for label, box, score in _found(record)))
        file.write(']\n')


def write_coco_masks(path: Path, records: Records, ids: Annotations, *, writer: str = '') -> None:
    """Write the list of masks that COCO's server and ``COCO.loadRes`` read.

    It has no boxes: with them ``loadRes`` would take the areas of boxes for those of the masks. The score is
    the mask's own, if there is one.

    Args:
        path (Path): The file.
        records, ids, writer: See :func:`write_coco_results`; the records have masks.
    """
    with written_aside(path, writer=writer) as aside, open(aside, 'w', encoding='utf-8') as file:
        file.write('[')
        _write_items(file, (
            dict(image_id=ids.image_id(record['input']), category_id=ids.categories[label], segmentation=rle,
                 score=score)
            for record in records() for label, rle, score in zip(
                record['labels'], _masks(record),
                record['mask_scores' if 'mask_scores' in record else 'scores'])))
        file.write(']\n')


def write_coco(path: Path, records: Records, classes: Sequence[str], info: Dict[str, Any], *,
               masks: str = 'rle', writer: str = '') -> None:
    """Write a full COCO file: images, categories, and detections as annotations with a ``score``.

    ``pycocotools.coco.COCO`` and tools that import COCO annotations can open it.

    Args:
        path (Path): The file.
        records (Callable): See :func:`write_coco_results`.
        classes (Sequence[str]): Class names; category ids count from 1.
        info (dict): The settings behind the results.
        masks (str): Form of the masks, if there are any: ``rle``, ``polygons``, or ``none`` to leave
            them out. A mask without a pixel is always RLE, because ``COCO.annToMask`` needs a polygon.
        writer (str): See :func:`write_coco_results`.
    """
    categories = [dict(id=number, name=name) for number, name in enumerate(classes, 1)]
    with written_aside(path, writer=writer) as aside, open(aside, 'w', encoding='utf-8') as file:
        file.write(f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(categories)},\n"images": [')
        _write_items(file, (
            {key: value for key, value in dict(
                id=number, file_name=_file_name(record), width=record['width'], height=record['height'],
                path=shown_name(record['input']), frame=record.get('frame'),
                refinements=record.get('refinements')).items()
             if value is not None} for number, record in enumerate(records(), 1)))
        file.write('],\n"annotations": [')
        found = ((number, *each) for number, record in enumerate(records(), 1)
                 for each in zip(_found(record), _segmentations(record, masks)))
        _write_items(file, (
            dict(id=number, image_id=image, category_id=label + 1, bbox=box, area=box[2] * box[3], iscrowd=0,
                 score=score) | more for number, (image, (label, box, score), more) in enumerate(found, 1)))
        file.write(']}\n')


def write_csv(path: Path, records: Records, classes: Sequence[str], *, score: float,
              video: bool, writer: str = '') -> None:
    """Write one row per detection; a frame without detections gets a row without a class.

    Args:
        path (Path): The file.
        records (Callable): See :func:`write_coco_results`.
        classes (Sequence[str]): Class names.
        score (float): Only detections above this score.
        video (bool): Also write number and refinements of the frame.
        writer (str): See :func:`write_coco_results`.
    """
    with written_aside(path, writer=writer) as aside, open(aside, 'w', encoding='utf-8', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(_VIDEO_COLUMNS if video else _COLUMNS)
        for record in records():
            begin = [shown_name(record['name']), *([record['frame'], record['refinements']] if video else [])]
            found = [[*begin, classes[label], f'{value:.6g}', *(f'{side:.2f}' for side in box)]
                     for label, value, box in zip(record['labels'], record['scores'], record['bboxes'])
                     if value > score]
            rows.writerows(found or ([[*begin, *[''] * 6]] if video else []))


def _found(record) -> Iterator[tuple]:
    """Label, box (x, y, width, height) and score of each detection."""
    for label, (x1, y1, x2, y2), score in zip(record['labels'], record['bboxes'], record['scores']):
        yield label, [x1, y1, x2 - x1, y2 - y1], score


def _masks(record) -> List[RLE]:
    """The masks of a record."""
    return [dict(size=[record['height'], record['width']], counts=counts) for counts in record['masks']]


def _segmentations(record, masks: str) -> Iterator[Dict[str, Any]]:
    """Entries of each detection for its mask; without masks they are empty."""
    if 'masks' not in record or masks == 'none':
        yield from ({} for _ in record['labels'])
        return
    for number, rle in enumerate(_masks(record)):
        more = dict(area=area_of(rle), segmentation=masks == 'polygons' and polygons_of(rle) or rle)
        yield more | ({'mask_score': record['mask_scores'][number]} if 'mask_scores' in record else {})


def _file_name(record) -> str:
    name = shown_name(record['name'])
    return name if record.get('frame') is None else f'{name}#{record["frame"]:06}'


def _write_items(file, items) -> None:
    """Write one item per line, without holding all in memory."""
    for number, item in enumerate(items):
        file.write(('' if number == 0 else ',') + '\n' + json.dumps(item))
