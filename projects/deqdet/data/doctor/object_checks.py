"""Checks of the objects of a built dataset: faults of formats other than COCO's, objects and queries."""

import os.path as osp
from typing import Iterator, Optional

import numpy as np
from mmengine.config import Config

from ..annotation_checks import box_findings, repeated_annotations
from ..annotations import summarise
from ..findings import Finding, finding_of
from .sources import Source

_QUERIES = ('num_proposals', 'num_queries', 'num_query')


def object_findings(source: Source, queries: Optional[int], *, needed: bool = True) -> Iterator[Finding]:
    """Faults and counts of the objects of a dataset.

    Args:
        source (Source): The dataset.
        queries (int, optional): Largest number of objects that the model can find in an image.
        needed (bool): Whether the set needs objects: it is used for training or as ground truth.

    Yields:
        Finding: Each fault once; crowds and images without objects are notes.
    """
    if not source.coco:
        yield from _other_format(source, needed)
    counts = source.objects_per_image
    if queries is not None and (counts > queries).any():
        yield finding_of(
            np.flatnonzero(counts > queries), 'more-objects-than-queries', 'warning', source.where,
            f'images have more objects than the {queries} queries of the model, up to {counts.max()}',
            'use more queries (model.rpn_head.num_proposals), and keep as many detections '
            '(test_cfg.rcnn.max_per_img)', words=lambda row: f'{source.paths[row]}: {counts[row]}')
    empty = int((counts == 0).sum())
    if empty:
        yield Finding('empty-images', 'note', source.where,
                      f'{empty} of {len(counts)} images have no objects', count=empty)
    if source.crowd.any():
        crowds = int(source.crowd.sum())
        yield Finding('crowd', 'note', source.where, f'{crowds} boxes are crowds or ignored: training and '
                      'evaluation do not count them', count=crowds)
    left = source.listed - len(source.paths)
    if left > 0:
        yield Finding('filtered-images', 'note', source.where, f'{left} of {source.listed} images of the '
                      'file are removed by filter_cfg or indices', count=left)


def queries_of(cfg: Config) -> Optional[int]:
    """Number of queries of the model of a config; None if it is no query-based detector."""
    model = cfg.get('model') or {}
    for part in (model, *(model.get(name) or {} for name in ('rpn_head', 'bbox_head'))):
        for name in _QUERIES:
            if isinstance(part, dict) and isinstance(part.get(name), int):
                return part[name]
    return None


def unused_categories(source: Source, path: str) -> Iterator[Finding]:
    """Categories of a COCO file that are no classes of the dataset; mmdet ignores them without a message."""
    summary = summarise(path)
    ids = {category['id']: category['name'] for category in summary.categories
           if category['name'] not in source.classes}
    count = sum(each in ids for each in summary.table.category_ids.tolist())
    if count:
        yield finding_of(list(ids.values()), 'unused-categories', 'note', source.where,
                         f'categories, of {count} annotations, are not classes of the dataset', shown=8)


def _other_format(source, needed) -> Iterator[Finding]:
    table = source.table()
    yield Finding(
        'left-out', 'note', source.where, 'it is not a local file in COCO\'s format, so it was checked as '
        'mmdet reads it; not checked: ids, class names, [x1, y1, x2, y2] instead of [x, y, width, height], '
        'and boxes that the dataset drops')
    yield from box_findings(table, source.where, dropped=False)
    yield from repeated_annotations(table, source.where)
    if source.crowd.all() and needed:
        yield Finding('no-objects', 'error', source.where, 'it has no object for training or evaluation',
                      'check the class names and the annotation files', 1)
    seen, again = set(), []
    for path in source.paths:
        real = osp.realpath(path)
        again += [path] if real in seen else []
        seen.add(real)
    if again:
        yield finding_of(again, 'image-twice', 'warning', source.where, 'images are listed more than once',
                         'list each once, with all its annotations')
