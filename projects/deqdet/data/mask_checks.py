"""Faults of the masks of an annotation file, and settings that need masks where there are none."""

from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmengine.config import Config

from ..errors import UsageError
from .annotations import AnnotationSummary, AnnotationTable, summarise
from .data_configs import CocoSource, leaves_of, metrics_of
from .findings import Finding, finding_of
from .mask_fields import NONE, POLYGONS, RLE, MaskTable
from .used_objects import of_classes, used_annotations

# A mask may leave its image by this many pixels, because of rounding.
_ROUNDING = 2.0
# If box and mask overlap (IoU) by less than this, they do not belong together.
_ALIKE = 0.5


class MaskUse(NamedTuple):
    """What a config does with the masks of a dataset.

    Attributes:
        read (bool): Whether to read and check them.
        loaded (bool): Whether the pipeline loads them (``with_mask=True``).
        evaluated (bool): Whether a metric of the dataset compares masks.
        polygons_only (bool): Whether the pipeline ignores RLE (``poly2mask=False``).
    """

    read: bool = False
    loaded: bool = False
    evaluated: bool = False
    polygons_only: bool = False


def mask_use(cfg: Config, split: str, key: str, *, always: bool = False) -> MaskUse:
    """What a config does with the masks of the dataset with this key.

    Args:
        cfg (Config): The whole config.
        split (str): ``train``, ``val`` or ``test``.
        key (str): Config key of the dataset, without wrappers.
        always (bool): Read the masks also if the config does not use them.
    """
    steps = [step for step in _loaders(dict(leaves_of(cfg, split))[key]) if step.get('with_mask')]
    evaluated = split != 'train' and any(
        evaluates_masks(metric) and (key == data or key.startswith(f'{data}.'))
        for _, metric, data in metrics_of(cfg, split))
    return MaskUse(read=bool(always or steps or evaluated), loaded=bool(steps), evaluated=evaluated,
                   polygons_only=any(not step.get('poly2mask', True) for step in steps))


def _loaders(dataset) -> List[dict]:
    """The steps of a pipeline that load annotations."""
    return [step for step in dataset.get('pipeline') or [] if isinstance(step, dict)
            and str(step.get('type')).split('.')[-1].strip("'>") == 'LoadAnnotations']


def evaluates_masks(metric: dict) -> bool:
    """Whether the config of a metric names ``segm``."""
    names: Any = metric.get('metric')
    names = names if isinstance(names, (list, tuple)) else [names]
    return 'segm' in names and not metric.get('format_only')


def setting_findings(cfg: Config, splits: Sequence[str]) -> Iterator[Finding]:
    """Settings of a two-stage model that do not fit together.

    It has a mask head, but training loads no masks; or it has none, but a metric compares masks.
    """
    head = (cfg.get('model') or {}).get('roi_head')
    if not isinstance(head, dict):
        return  # other detectors make masks in other ways
    if head.get('mask_head') is None:
        keys = [key for split in splits if split != 'train'
                for key, metric, _ in metrics_of(cfg, split) if evaluates_masks(metric)]
        if keys:
            yield Finding('mask-settings', 'error', keys[0], "the metric 'segm' needs masks, but the model "
                          'has no model.roi_head.mask_head',
                          "use metric='bbox', or a model with a mask head", len(keys))
        return
    datasets = leaves_of(cfg, 'train') if 'train' in splits else []
    without = [key for key, dataset in datasets if _loaders(dataset) and not any(
        step.get('with_mask') for step in _loaders(dataset))]
    if without:
        yield Finding('mask-settings', 'error', without[0], 'model.roi_head.mask_head learns from masks, but '
                      'the pipeline does not load them', 'set with_mask=True in its LoadAnnotations, or '
                      'model.roi_head.mask_head=None', len(without))


def source_mask_findings(source: CocoSource, use: MaskUse) -> Iterator[Finding]:
    """Faults of the masks that a dataset reads. Only unused masks may be missing.

    Args:
        source (CocoSource): The dataset; its file can be read.
        use (MaskUse): What the config does with the masks.

    Yields:
        Finding: Each fault once. If the config uses masks, it is an error if mmdet or pycocotools fails on
            them, or reads other pixels without a message.
    """
    if not (use.read and source.stock):
        return
    summary = summarise(source.path, masks=True)
    used = used_annotations(summary, source.classes)
    if use.loaded:
        yield from missing_findings(summary, source.classes, source.where)
    yield from _undecodable(summary, source.where, 'error' if use.loaded or use.evaluated else 'warning')
    wanted = used & ~summary.table.crowd
    yield from _pointless(summary, source.where, use.evaluated, wanted if use.loaded else None)
    yield from _doubtful(summary, source.where)
    ignored = wanted & (_masks(summary).forms == RLE)
    if use.polygons_only and ignored.any():
        grade = 'error' if ignored.sum() == wanted.sum() else 'warning'
        yield _of(ignored, summary.table, 'mask-form', grade, source.where,
                  f'of {wanted.sum()} masks are RLE, so training ignores these objects, because '
                  'LoadAnnotations(poly2mask=False) takes only polygons', 'remove poly2mask=False')


def missing_findings(summary: AnnotationSummary, classes: Sequence[str], where: str) -> Iterator[Finding]:
    """Objects without a mask in a file, read with masks, of a dataset whose pipeline loads masks."""
    yield from _missing(summary, used_annotations(summary, classes), where, 'the pipeline loads masks '
                        '(with_mask=True)', 'add masks to the file, or remove with_mask=True and '
                        'model.roi_head.mask_head')


def evaluated_mask_findings(path: str, classes: Sequence[str], where: str, *, checked: bool = True
                            ) -> Iterator[Finding]:
    """Masks that COCO's evaluation of masks needs, but does not find in a file.

    Args:
        path (str): The annotation file.
        classes (Sequence[str]): Evaluated classes.
        where (str): Names evaluator and file in the findings.
        checked (bool): Whether :func:`source_mask_findings` has checked the masks of this file.
    """
    try:
        summary = summarise(path, masks=True)
    except UsageError:
        return  # reported with the dataset
    if not checked:
        yield from _undecodable(summary, where, 'error')
        yield from _pointless(summary, where, True)
        yield from _doubtful(summary, where)
    yield from _missing(summary, of_classes(summary, classes) & summary.table.known, where,
                        "the metric 'segm' compares masks", "add masks to the file, or use metric='bbox'")


def _masks(summary: AnnotationSummary) -> MaskTable:
    assert summary.masks is not None
    return summary.masks


def _missing(summary, wanted, where, why, fix) -> Iterator[Finding]:
    """Objects without a mask: mmdet and pycocotools fail on the first of them."""
    without = wanted & (_masks(summary).forms == NONE)
    if without.any() and without.sum() == wanted.sum():
        yield Finding('no-masks', 'error', where, f"none of {wanted.sum()} annotations has a 'segmentation', "
                      f'but {why}', fix, int(wanted.sum()))
    elif without.any():
        yield _of(without, summary.table, 'no-masks', 'error', where,
                  f"of {wanted.sum()} annotations have no 'segmentation'", fix, so=f', but {why}')


def _undecodable(summary, where, grade) -> Iterator[Finding]:
    table, masks = summary.table, _masks(summary)
    broken = np.zeros(len(table.ids), dtype=bool)
    broken[list(masks.faults)] = True
    if broken.any():
        yield _of(broken, table, 'mask-broken', grade, where, 'masks cannot be decoded', 'write polygons '
                  '[[x1, y1, x2, y2, ...]] or RLE as pycocotools does, or remove the objects',
                  more=masks.faults)
    other = ~broken & _known(table) & (masks.forms == RLE) & (masks.sizes != table.box_sizes).any(axis=1)
    if other.any():
        sizes = {row: '{:g} x {:g} instead of {:g} x {:g}'.format(*masks.sizes[row], *table.box_sizes[row])
                 for row in np.flatnonzero(other)[:3].tolist()}
        yield _of(other, table, 'mask-size', grade, where, 'masks have another width and height than their '
                  'image', 'write masks of the size of the image; size of an RLE is [height, width]',
                  more=sizes)


def _pointless(summary, where, evaluated, wanted=None) -> Iterator[Finding]:
    """Polygons with too few numbers, an error if they stop the evaluation or leave no object to learn.

    Args:
        summary (AnnotationSummary): The file, read with masks.
        where (str): Names the file.
        evaluated (bool): Whether a metric compares the masks.
        wanted (np.ndarray, optional): Objects that training uses, has shape (N,), bool; None: no training.
    """
    masks, rest = _masks(summary), _masks(summary).short
    fix = 'remove such polygons, or objects that have no other one'
    if evaluated and masks.unevaluated.any():
        yield _of(masks.unevaluated, summary.table, 'mask-points', 'error', where,
                  'masks begin with a polygon of fewer than three points, with which the evaluation of masks '
                  'fails', fix)
        rest = rest & ~masks.unevaluated
    if rest.any():
        nothing = wanted is not None and wanted.any() and not (wanted & ~masks.ignored).any()
        yield _of(rest, summary.table, 'mask-points', 'error' if nothing else 'warning', where,
                  'masks have a polygon with fewer than three points, or with an odd number of numbers, '
                  'which training ignores' + (', so that no object is left' if nothing else ''), fix)


def _doubtful(summary, where) -> Iterator[Finding]:
    """Masks that mmdet reads, but that teach nothing or something wrong."""
    table, masks = summary.table, _masks(summary)
    outside, beyond = _leaving(table, masks)
    for check, rows, what, fix in (
            ('mask-empty', masks.empty, 'masks have no pixel', 'correct them, or remove the objects'),
            ('mask-outside', outside, 'masks are entirely outside their image',
             'correct them, or width and height of the image, or remove the objects'),
            ('mask-beyond', beyond & ~outside, f'masks are outside their image by more than {_ROUNDING:g} px',
             'clip them to the image, or correct its width and height'),
            ('mask-box', _apart(table, masks), 'boxes do not fit their masks (RLE)',
             'check them: the box must enclose the mask, and both must be for the same image size')):
        if rows.any():
            yield _of(rows, table, check, 'warning', where, what, fix)


def _known(table) -> np.ndarray:
    """Annotations of an image with a size."""
    return table.known & ~table.flat


def _leaving(table: AnnotationTable, masks: MaskTable) -> Tuple[np.ndarray, np.ndarray]:
    """Polygons that have no part in their image, and those that reach beyond it."""
    polygons = (masks.forms == POLYGONS) & _known(table)
    first, last = masks.extents[:, :2], masks.extents[:, 2:]
    outside = (first >= table.box_sizes).any(axis=1) | (last <= 0).any(axis=1)
    beyond = ((first < -_ROUNDING) | (last > table.box_sizes + _ROUNDING)).any(axis=1)
    return outside & polygons, beyond & polygons


def _apart(table, masks) -> np.ndarray:
    """Boxes unlike their RLE. Those unlike their polygons are found with the boxes."""
    x1, y1, x2, y2 = masks.extents.T
    left, top, width, height = table.boxes.T
    with np.errstate(invalid='ignore', divide='ignore', over='ignore'):
        common = (np.minimum(x2, left + width) - np.maximum(x1, left)).clip(min=0) * (
            np.minimum(y2, top + height) - np.maximum(y1, top)).clip(min=0)
        overlap = common / ((x2 - x1) * (y2 - y1) + width * height - common)
        upright = (table.rotations == 0) & ~table.other_mode
        # A mask of another size is reported as such.
        fits = (masks.forms == RLE) & (masks.sizes == table.box_sizes).all(axis=1)
        return (overlap < _ALIKE) & fits & ~table.crowd & upright


def _of(rows, table, check, grade, where, what, fix, *, so='', more: Optional[dict] = None) -> Finding:
    def words(row):
        image = table.images[row]
        of = f'image {table.image_ids[image]}, {table.file_names[image]}' if image >= 0 else 'no image'
        return f'annotation {table.ids[row]} of {of}' + (f': {more[row]}' if more else '')

    return finding_of(np.flatnonzero(rows), check, grade, where, what, fix, so=so, words=words)
