"""Splits that do not fit together, and what COCO's evaluation would fail on."""

import os.path as osp
from typing import Iterator, List, Sequence

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS

from .annotation_checks import class_order
from .annotations import AnnotationSummary, summarise
from .data_configs import CocoSource, is_local
from .findings import Finding

_EXAMPLES = 3


def label_findings(sources: Sequence[CocoSource]) -> Iterator[Finding]:
    """Datasets that number the classes otherwise than the first does.

    Args:
        sources (Sequence[CocoSource]): Datasets of all splits; their classes are in their files.
    """
    done = set()
    for other in sources[1:]:
        if other.path not in done:
            yield from _same_labels(sources[0], other.classes, other.path, other.where)
        done.add(other.path)


def evaluation_findings(evaluator: dict, source: CocoSource, *, key: str, trained: CocoSource
                        ) -> Iterator[Finding]:
    """What is wrong with the file of an evaluator, if that is mmdet's ``CocoMetric`` with a local file.

    Args:
        evaluator (dict): Its config.
        source (CocoSource): The dataset that it evaluates.
        key (str): Where the config has the evaluator.
        trained (CocoSource): A dataset that numbers the classes as the model does.

    Yields:
        Finding: Each fault once.
    """
    path, kind = evaluator.get('ann_file'), evaluator.get('type')
    kind = METRICS.get(kind) if isinstance(kind, str) else kind
    if kind is not CocoMetric or not isinstance(path, str) or not is_local(evaluator) or not osp.isfile(path):
        return
    where = f'{key}, {path}'
    try:
        summary = summarise(path)
    except (ValueError, RecursionError) as error:  # a UsageError is a ValueError
        yield Finding('format', 'error', where, str(error), count=1)
        return
    if osp.abspath(path) != osp.abspath(source.path):
        yield from _other_file(evaluator, summary, source, where, trained)
    if not evaluator.get('format_only'):
        yield from _unfit_annotations(summary, where)


def _same_labels(source, classes, path, where) -> Iterator[Finding]:
    """``path`` must number ``classes`` as the file of ``source`` numbers its own."""
    first = class_order(source.classes, summarise(source.path).categories)
    second = class_order(classes, summarise(path).categories)
    label = next((label for label, (a, b) in enumerate(zip(first, second)) if a != b), None)
    if label is None and len(first) == len(second):
        return
    different = f'label {label} is {second[label]!r} here and {first[label]!r}' if label is not None else (
        f'there are {len(second)} classes here and {len(first)}')
    yield Finding(
        'label-order', 'error', where,
        f'{different} in {source.path}. mmdet numbers classes as each file does', count=1,
        mend='give both datasets the same classes, and write the categories of both files in the same order')


def _other_file(evaluator, summary: AnnotationSummary, source, where, trained) -> Iterator[Finding]:
    """The evaluator reads another file than its dataset."""
    ours, theirs = (table.image_ids.tolist() for table in (summarise(source.path).table, summary.table))
    mend = 'set the ann_file of the evaluator to that of the dataset'
    missing, extra = _without(ours, theirs), _without(theirs, ours)
    if source.dataset.get('indices') is not None:
        missing = extra = []
    if missing:
        yield Finding(
            'evaluator-images', 'error', where, f'{len(missing)} image ids of {source.path} are not in the '
            "file of the evaluator, and COCO's evaluation refuses them", mend, len(missing),
            tuple(map(str, missing[:_EXAMPLES])))
    elif extra:
        yield Finding(
            'evaluator-images', 'warning', where, f'{len(extra)} image ids are not in {source.path}; their '
            'objects count as missed', mend, len(extra), tuple(map(str, extra[:_EXAMPLES])))
    lacking = _without(source.classes, [category['name'] for category in summary.categories])
    if lacking:
        yield Finding(
            'class-names', 'error', where, f'{len(lacking)} classes of the dataset are not in the file of '
            'the evaluator', mend, len(lacking), tuple(lacking[:8]))
    elif not evaluator.get('sort_categories'):
        yield from _same_labels(trained, source.classes, evaluator['ann_file'], where)


def _unfit_annotations(summary: AnnotationSummary, where) -> Iterator[Finding]:
    table = summary.table
    if not len(table.ids):
        yield Finding('no-objects', 'error', where, 'there are no annotations, AP would be -1', count=1,
                      mend='take a file with boxes, or an evaluator that only writes detections')
    for name, there, mend in (('iscrowd', table.has_crowd, 'write iscrowd=0'),
                              ('area', table.has_area, 'write width * height, or the area of the mask')):
        rows = (~there).nonzero()[0]
        if len(rows):
            yield Finding(
                f'no-{name}', 'error', where, f"{len(rows)} annotations have no '{name}', without which "
                "COCO's evaluation fails", mend, len(rows),
                tuple(f'annotation {each}' for each in table.ids[rows[:_EXAMPLES]]))
    unfit = [each for each in table.ids.tolist() if not isinstance(each, (int, float)) and each is not None]
    if unfit:
        yield Finding(
            'annotation-ids', 'error', where, f'{len(unfit)} annotation ids are no numbers, and '
            "COCO's evaluation fails on them", 'number the annotations from 1', len(unfit),
            tuple(f'annotation {each!r}' for each in unfit[:_EXAMPLES]))
    if any(type(each) is int and each == 0 for each in table.ids.tolist()):
        yield Finding(
            'annotation-id-zero', 'warning', where, "COCO's evaluation takes the object with annotation id 0 "
            'for missed, even where it is found', 'number the annotations from 1', 1, ('annotation 0', ))


def _without(names, others) -> List:
    """Those of the names that are not among the others."""
    others = set(others)
    return [name for name in names if name not in others]
