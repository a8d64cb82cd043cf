"""Which images and objects of an annotation file are used, and the reason if none is used."""

from typing import Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from .annotations import AnnotationSummary
from .data_configs import CocoSource


def of_classes(summary: AnnotationSummary, classes: Sequence[str]) -> np.ndarray:
    """Mask of the annotations whose class the dataset has, has shape (N,)."""
    ids = {category['id'] for category in summary.categories if category['name'] in set(classes)}
    return np.array([each in ids for each in summary.table.category_ids.tolist()], dtype=bool)


def used_annotations(summary: AnnotationSummary, classes: Sequence[str]) -> np.ndarray:
    """Mask of the annotations that a dataset with these classes uses, including crowds, has shape (N,)."""
    table = summary.table
    dropped = np.logical_or.reduce(list(table.doubtful().values()))
    return of_classes(summary, classes) & ~table.ignored & ~dropped


def images_read(source: CocoSource, summary: AnnotationSummary) -> np.ndarray:
    """Rows of the images that a dataset uses: those that ``filter_cfg`` and ``indices`` leave.

    Args:
        source (CocoSource): The dataset.
        summary (AnnotationSummary): Its file of M images.

    Returns:
        np.ndarray: Numbers from 0 to M - 1.
    """
    rows = np.flatnonzero(_passes_filter(source, summary))
    indices = source.dataset.get('indices')
    if indices is None:
        return rows
    if isinstance(indices, int):
        return rows[:indices] if indices >= 0 else rows[indices:]
    numbers = np.array(list(indices), dtype=int)
    # mmengine fails on other numbers when it builds the dataset.
    return rows[numbers[(numbers >= -len(rows)) & (numbers < len(rows))]]


def _passes_filter(source, summary) -> np.ndarray:
    """Images that ``filter_cfg`` leaves, as in ``CocoDataset.filter_data``."""
    table, settings = summary.table, source.dataset.get('filter_cfg') or {}
    passes = np.ones(len(table.image_ids), dtype=bool)
    if source.dataset.get('test_mode'):
        return passes
    if settings.get('filter_empty_gt'):
        passes[:] = False
        passes[table.images[of_classes(summary, source.classes) & table.known]] = True
    return passes & (table.sizes.min(axis=1) >= settings.get('min_size', 0))


def why_nothing_to_learn(summary: AnnotationSummary, classes: Sequence[str],
                         image_ids: Optional[Iterable] = None) -> Optional[str]:
    """Why a dataset with these classes has no object to learn (crowds do not count); None if it has one.

    Args:
        summary (AnnotationSummary): Its file.
        classes (Sequence[str]): Its classes.
        image_ids (Iterable, optional): Images that the dataset uses; all of the file by default.
    """
    masks = summary.table.doubtful()
    return _first_reason([
        *_reasons(summary, classes),
        (~summary.table.flat, 'their images have a width or height of zero or less in the file'),
        (~masks['without_size'], 'their boxes are smaller than 1 px, or have a negative size'),
        (~masks['outside'], 'their boxes are outside their images'),
        (~masks['without_area'], "their 'area' is zero or less"),
        *_in_images(summary, image_ids)])


def why_nothing_to_evaluate(summary: AnnotationSummary, classes: Sequence[str],
                            image_ids: Optional[Iterable] = None) -> Optional[str]:
    """Why COCO's evaluation of a file finds no object that counts, which gives AP -1; None if it finds one.

    COCO's evaluation takes objects of any place and size, but ignores those with a negative area.

    Args:
        summary (AnnotationSummary): The file of the evaluator.
        classes (Sequence[str]): Evaluated classes.
        image_ids (Iterable, optional): Evaluated images; all of the file by default.
    """
    return _first_reason([
        *_reasons(summary, classes), (~(summary.table.areas < 0), "their 'area' is negative"),
        *_in_images(summary, image_ids)])


def _in_images(summary, image_ids) -> Iterator[Tuple[np.ndarray, str]]:
    if image_ids is not None:
        wanted = set(image_ids)
        read = np.array([each in wanted for each in summary.table.image_ids.tolist()], dtype=bool)
        yield (np.append(read, False)[summary.table.images],
               f'they are in other images than the {len(wanted)} of the data set')


def _reasons(summary, classes) -> Iterator[Tuple[np.ndarray, str]]:
    table = summary.table
    yield table.known, _why_no_image(table)
    yield of_classes(summary, classes), 'their category_id is not that of a class of the dataset'
    yield ~table.crowd, 'they have iscrowd=1'
    yield ~table.ignored, 'they have ignore=1'


def _first_reason(reasons: List[Tuple[np.ndarray, str]]) -> Optional[str]:
    left = np.ones(len(reasons[0][0]), dtype=bool)
    for keep, reason in reasons:
        left = left & keep
        if not left.any():
            return reason if len(keep) else 'the file has no annotations'
    return None


def _why_no_image(table) -> str:
    ours, theirs = table.image_ids[:1].tolist(), table.named_images[:1].tolist()
    if ours and theirs and isinstance(ours[0], str) != isinstance(theirs[0], str):
        return (f'an image has the id {ours[0]!r} and an annotation the image_id {theirs[0]!r}: write both '
                'as numbers')
    return 'their image_id is not that of an image of the file'
