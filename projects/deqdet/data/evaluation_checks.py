"""Splits that do not fit together, and faults on which COCO's evaluation would fail."""

import os.path as osp
from dataclasses import replace
from typing import Iterator, List, Sequence

from mmdet.evaluation import CocoMetric, VOCMetric
from mmdet.registry import METRICS

from ..errors import UsageError
from .annotation_checks import class_order
from .annotations import AnnotationSummary, summarise
from .data_configs import CocoSource, is_local
from .findings import Finding, finding_of, first_error
from .mask_checks import evaluated_mask_findings, evaluates_masks
from .submission import CocoSubmissionMetric
from .used_objects import images_read, why_nothing_to_evaluate, why_nothing_to_learn


def label_findings(sources: Sequence[CocoSource]) -> Iterator[Finding]:
    """Datasets, of all splits, that number the classes of their files differently from the first one."""
    done = set()
    for other in sources[1:]:
        if other.path not in done:
            yield from _same_labels(sources[0], other.classes, other.path, other.where)
        done.add(other.path)


def evaluation_findings(evaluator: dict, sources: Sequence[CocoSource], *, key: str, trained: CocoSource
                        ) -> Iterator[Finding]:
    """Faults of the ground truth of an evaluator, if it is mmdet's ``CocoMetric`` or ``VOCMetric``.

    Args:
        evaluator (dict): Its config.
        sources (Sequence[CocoSource]): The datasets that it evaluates together, at least one.
        key (str): Config key of the evaluator.
        trained (CocoSource): A dataset that numbers the classes as the model does.

    Yields:
        Finding: Each fault once.
    """
    kind = evaluator.get('type')
    kind = METRICS.get(kind) if isinstance(kind, str) else kind
    # Metrics from elsewhere may read the file differently.
    by_coco = getattr(kind, 'compute_metrics', None) is CocoMetric.compute_metrics
    if not (by_coco or kind is VOCMetric) or kind is CocoSubmissionMetric or evaluator.get('format_only'):
        return
    path = evaluator.get('ann_file')
    by_masks = by_coco and evaluates_masks(evaluator)
    if kind is VOCMetric or path is None:
        yield from _unfit_datasets(sources)
        for source in sources if by_masks else ():
            yield from evaluated_mask_findings(source.path, source.classes, source.where)
        return
    if not isinstance(path, str) or not is_local(evaluator) or not osp.isfile(path):
        return
    where = f'{key}, {path}'
    try:
        summary = summarise(path, masks=by_masks)
    except UsageError as error:
        yield Finding('format', 'error', where, error.message, count=1)
        return
    found = [finding for source in sources if osp.abspath(path) != osp.abspath(source.path)
             for finding in _other_file(evaluator, summary, source, where, trained)]
    yield from found
    yield from _unfit_annotations(summary, where)
    if by_masks:
        same = any(osp.abspath(path) == osp.abspath(source.path) for source in sources)
        yield from evaluated_mask_findings(path, sources[0].classes, where, checked=same)
    ids = [each for source in sources for each in _ids_read(source)]
    if first_error(found):
        return
    yield from _images_left_out(summary, ids, where)
    why = why_nothing_to_evaluate(summary, sources[0].classes, ids)
    if why:
        yield _no_objects(where, len(summary.table.ids), why)


def annotation_file_findings(path: str, *, masks: bool) -> Iterator[Finding]:
    """Faults of an annotation file, without a config, on which COCO's evaluation of all its classes fails.

    Args:
        path (str): The file.
        masks (bool): Whether masks are compared, not boxes.

    Raises:
        UsageError: If the file is not in COCO's format.
    """
    summary = summarise(path, masks=masks)
    classes = [category['name'] for category in summary.categories]
    yield from _unfit_annotations(summary, path)
    if masks:
        for finding in evaluated_mask_findings(path, classes, path, checked=False):
            yield replace(finding, fix='add masks to the file, or leave out --masks') \
                if finding.check == 'no-masks' else finding
    why = why_nothing_to_evaluate(summary, classes)
    if why:
        yield replace(_no_objects(path, len(summary.table.ids), why), fix='use a file with objects')


def _unfit_datasets(sources) -> Iterator[Finding]:
    """The datasets themselves hold the ground truth."""
    reasons = [why_nothing_to_learn(summarise(source.path), source.classes, _ids_read(source))
               for source in sources if source.stock]
    if len(reasons) == len(sources) and all(reasons):
        total = sum(len(summarise(source.path).table.ids) for source in sources)
        yield _no_objects(sources[0].where, total, reasons[0])


def _no_objects(where, total, why) -> Finding:
    none = f'none of {total} annotations counts in the evaluation, because {why}' if total else why
    return Finding('no-objects', 'error', where, f'{none}; AP would be -1', count=max(total, 1),
                   fix='correct the file, use one with boxes, or an evaluator that only writes detections')


def _ids_read(source) -> list:
    summary = summarise(source.path)
    return summary.table.image_ids[images_read(source, summary)].tolist()


def _images_left_out(summary, ids, where) -> Iterator[Finding]:
    left = len(set(summary.table.image_ids.tolist()) - set(ids))
    if left:
        yield Finding(
            'evaluator-images', 'note', where, f'{left} of {len(summary.table.image_ids)} images are not in '
            'the data set (another file, indices or filter_cfg), and are not evaluated', count=left)


def _same_labels(source, classes, path, where) -> Iterator[Finding]:
    """``path`` must number ``classes`` as the file of ``source`` does."""
    first = class_order(source.classes, summarise(source.path).categories)
    second = class_order(classes, summarise(path).categories)
    label = next((label for label, (a, b) in enumerate(zip(first, second)) if a != b), None)
    if label is None and len(first) == len(second):
        return
    different = f'label {label} is {second[label]!r} here and {first[label]!r}' if label is not None else (
        f'{len(second)} classes are here and {len(first)}')
    yield Finding(
        'label-order', 'error', where,
        f'{different} in {source.path}. mmdet numbers classes as each file does', count=1,
        fix='give both datasets the same classes, and write the categories of both files in the same order')


def _other_file(evaluator, summary: AnnotationSummary, source, where, trained) -> Iterator[Finding]:
    """The evaluator reads another file than its dataset."""
    fix = 'set the ann_file of the evaluator to that of the dataset'
    missing = _without(_ids_read(source), summary.table.image_ids.tolist())
    if missing:
        yield finding_of(missing, 'evaluator-images', 'error', where, f'image ids of {source.path} are not '
                         "in the file of the evaluator, so COCO's evaluation fails", fix)
    lacking = _without(source.classes, [category['name'] for category in summary.categories])
    if lacking:
        yield finding_of(lacking, 'class-names', 'error', where, 'classes of the dataset are not in the file '
                         'of the evaluator', fix, shown=8)
    elif not evaluator.get('sort_categories'):
        yield from _same_labels(trained, source.classes, evaluator['ann_file'], where)


def _unfit_annotations(summary: AnnotationSummary, where) -> Iterator[Finding]:
    table = summary.table
    for name, there, fix in (('iscrowd', table.has_crowd, 'write iscrowd=0'),
                              ('area', table.has_area, 'write width * height, or the area of the mask')):
        if not there.all():
            yield finding_of(
                table.ids[~there], f'no-{name}', 'error', where, f"annotations have no '{name}', so "
                "COCO's evaluation fails", fix, words='annotation {}'.format)
    unfit = [each for each in table.ids.tolist() if not isinstance(each, (int, float)) and each is not None]
    if unfit:
        yield finding_of(unfit, 'annotation-ids', 'error', where, "annotation ids are not numbers, so "
                         "COCO's evaluation fails", 'number the annotations from 1',
                         words='annotation {!r}'.format)
    if any(type(each) is int and each == 0 for each in table.ids.tolist()):
        yield Finding(
            'annotation-id-zero', 'warning', where, "COCO's evaluation counts the object with annotation id "
            '0 as missed, even if it is found', 'number the annotations from 1', 1, ('annotation 0', ))


def _without(names, others) -> List:
    """The names that are not among the others."""
    others = set(others)
    return [name for name in names if name not in others]
