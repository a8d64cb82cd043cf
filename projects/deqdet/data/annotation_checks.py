"""Faults of one annotation file in COCO's format: what mmdet would fail on, drop, or learn wrong.

Nothing here opens an image. Training stops at errors only; ``tools/dataset/check.py`` reports everything.
"""

import posixpath
from difflib import get_close_matches
from typing import Iterator, List, Optional, Sequence

import numpy as np

from .annotations import AnnotationSummary, AnnotationTable
from .box_conventions import convention_findings
from .findings import SPOILING_SHARE, Finding, finding_of, some_of
from .used_objects import used_annotations, why_nothing_to_learn

# A box may leave its image by this many pixels, because of rounding.
_ROUNDING = 2.0
# The boxes of a file are corners if this share of them (_FIT) fits the images when read as corners, and this
# share (_LEAVE), read as width and height, leaves the image by more than _FAR of the image's side.
_FIT, _LEAVE, _FAR = 0.95, 0.25, 0.1
# No image has this many pixels on a side. The losses of such a box would not be finite.
_HUGE = 1e6
# Fewer boxes than this prove nothing about a file.
_FEWEST = 3


def annotation_findings(summary: AnnotationSummary, classes: Sequence[str], *, where: str,
                        training: bool, stock: bool = True) -> List[Finding]:
    """Faults of a file as a dataset with these classes reads it.

    Args:
        summary (AnnotationSummary): The file.
        classes (Sequence[str]): Class names of the dataset.
        where (str): Names dataset and file in the findings.
        training (bool): Whether the file is used for training.
        stock (bool): Whether mmdet's ``parse_data_info`` reads the boxes. If not, boxes are not checked:
            other code may be able to use boxes that mmdet cannot.

    Returns:
        list[Finding]: Each fault once.
    """
    found = list(class_findings(classes, summary.categories, where=where))
    found += _id_findings(summary, where)
    if not stock:
        return found
    found += _image_sizes(summary.table, where, training)
    meaning = _box_meaning(summary.table, where)
    found += [meaning] if meaning else [
        *box_findings(summary.table, where), *convention_findings(summary.table, where)]
    if training and not any(finding.grade == 'error' for finding in found):
        found += _object_findings(summary, classes, where)
    return found


def class_findings(classes: Sequence[str], categories: Sequence[dict], *, where: str) -> Iterator[Finding]:
    """Compare the class names of a dataset with the categories of its file.

    Args:
        classes (Sequence[str]): ``metainfo['classes']`` of the dataset.
        categories (Sequence[dict]): Categories of the file, see :func:`summarise`.
        where (str): Names dataset and file in the findings.

    Yields:
        Finding: An error, which ends the search: a class is not in the file, or is twice in the file or in
            ``classes``, or ``classes`` is no list. A warning: the order differs.
    """
    if isinstance(classes, str):
        yield Finding(
            'class-names', 'error', where, f'metainfo classes is the string {classes!r}; for one class, '
            f'write metainfo=dict(classes=({classes!r}, )), with the comma', count=1)
        return
    if not isinstance(classes, (list, tuple)):
        yield Finding(
            'class-names', 'error', where, f'metainfo classes is {classes!r}, not a list of names', count=1)
        return
    repeated = _repeated(classes)
    if repeated:
        yield finding_of(repeated, 'class-names', 'error', where, 'classes occur more than once in metainfo',
                         'name each class once', shown=8)
        return
    names = [category['name'] for category in categories]
    missing = [name for name in classes if name not in set(names)]
    if missing:
        yield finding_of(
            missing, 'class-names', 'error', where,
            f'of the {len(classes)} class names of metainfo are not in the file',
            'set metainfo=dict(classes=(...)) of the dataset to names of the file', shown=8,
            so=f', their AP would be 0; the file has {some_of(names, 20) or "none"}'
            + ''.join(f'; {name!r} may be {match!r}' for name, match in _matches(missing, names)))
        return
    twice = sorted({name for name in classes if names.count(name) > 1})
    if twice:
        yield finding_of(twice, 'class-names', 'error', where, 'categories of the file have the same name as '
                         'others', 'use unique names, or labels are shifted', shown=8)
        return
    order = class_order(classes, categories)
    label = next((label for label, name in enumerate(classes) if name != order[label]), None)
    if label is not None:
        yield Finding(
            'class-order', 'warning', where,
            'metainfo names the classes in another order than the file. mmdet numbers '
            f'them as the file does, so label {label} is {order[label]!r} and would be shown as '
            f'{classes[label]!r}', fix='write metainfo in the order of the file',
            count=sum(a != b for a, b in zip(classes, order)))


def class_order(classes: Sequence[str], categories: Sequence[dict]) -> List[str]:
    """Class names by label: mmdet uses the order of the file, whatever the order of ``metainfo``."""
    return [category['name'] for category in categories if category['name'] in set(classes)]


def boxes_are_corners(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether boxes that should be (x, y, width, height) are (x1, y1, x2, y2).

    Two conditions hold for corners: almost all boxes fit their images when read as corners, and many leave
    them by far when read as (x, y, width, height). Boxes of other kinds fail one of the two.

    Args:
        boxes (np.ndarray): Boxes as in the file, has shape (N, 4).
        sizes (np.ndarray): Width and height of the image of each box, has shape (N, 2).

    Returns:
        bool: Also False if the file does not show it.
    """
    first, second = boxes[:, :2], boxes[:, 2:]
    fits = ((second >= first) & (second <= sizes + _ROUNDING)).all(axis=1)
    leaves = (first + second > (1 + _FAR) * sizes + _ROUNDING).any(axis=1) & fits
    return bool(leaves.sum() >= max(_FEWEST, _LEAVE * len(boxes)) and fits.mean() >= _FIT)


def _matches(missing, names):
    """Names of the file that are probably meant: they differ in case, spaces or punctuation, or by a typo."""
    def plain(name):
        return ''.join(letter for letter in str(name).casefold() if letter.isalnum())

    by_plain = {plain(name): name for name in names}
    for name in missing[:3]:
        close = [plain(name)] if plain(name) in by_plain else get_close_matches(
            plain(name), by_plain, n=1, cutoff=0.8)
        if close:
            yield name, by_plain[close[0]]


def _id_findings(summary, where) -> Iterator[Finding]:
    table = summary.table
    categories = [category['id'] for category in summary.categories]
    for name, ids, so, fix in (
            ('category', categories, ': the class of their boxes is unknown',
             'give each category its own id'),
            ('image', table.image_ids.tolist(), ': only the last image of an id is used, with all boxes',
             'give each image its own id, and correct the image_id of its annotations'),
            ('annotation', table.ids.tolist(), ': mmdet refuses the file', 'number the annotations from 1')):
        repeated = _repeated(ids)
        if repeated:
            yield finding_of(repeated, f'{name}-ids', 'error', where, f'{name} ids occur more than once',
                             fix, so=so)
    none = np.array([each is None for each in table.ids.tolist()], dtype=bool)
    if none.any():
        yield _of_annotations('annotation-ids', 'error', where, table, none, 'annotations have no id',
                              'number the annotations from 1')
    yield from _reference_findings(table, where)
    known = set(categories)
    unknown = np.array([each not in known for each in table.category_ids.tolist()], dtype=bool)
    yield from _if_any('category-reference', where, table, unknown,
                       'annotations have a category_id that is not in the file, and are not used',
                       'add the categories, or correct the ids')
    # "./1.png" and "1.png" are one file.
    twice = _repeated(posixpath.normpath(name)
                      for name, own in zip(table.file_names, _alone(table.image_ids)) if own)
    if twice:
        yield finding_of(
            twice, 'image-twice', 'warning', where, 'image files are listed more than once, with several '
            'ids', 'list each once, with all its annotations: missing ones count as background')
    yield from repeated_annotations(table, where)


def _reference_findings(table, where) -> Iterator[Finding]:
    yield from _if_any('image-reference', where, table, ~table.known,
                       'annotations have an image_id that is not in the file, and are not used',
                       'add the images, or remove the annotations')


def _image_sizes(table, where, training) -> Iterator[Finding]:
    """Images with a width or height of zero or less: all their boxes are outside of them."""
    flat = ['{}: {:g} x {:g}'.format(table.file_names[row], *table.sizes[row])
            for row in np.flatnonzero((table.sizes <= 0).any(axis=1))]
    if flat:
        spoils = training and len(flat) > SPOILING_SHARE * len(table.sizes)
        yield finding_of(
            flat, 'image-without-size', 'error' if spoils else 'warning', where,
            f'of {len(table.sizes)} images have a width or height of zero or less in the file',
            'write width and height of the image files in pixels',
            so='; mmdet drops all their boxes as outside the image')


def _box_meaning(table, where) -> Optional[Finding]:
    """The error of a file in which all boxes have another format."""
    known = table.known & np.isfinite(table.boxes).all(axis=1)
    boxes, sizes = table.boxes[known], table.box_sizes[known]
    if len(boxes) < _FEWEST:
        return None
    if boxes_are_corners(boxes, sizes):
        leaves = known & ~_inside(table)
        return _of_annotations(
            'xyxy', 'error', where, table, leaves, f'of {len(boxes)} boxes do not fit into their image '
            'as [x, y, width, height], but they fit as [x1, y1, x2, y2]',
            'write width = x2 - x1 and height = y2 - y1, and area')
    small = ((boxes >= 0) & (boxes <= 1 + 1e-3)).all(axis=1) & (boxes % 1 != 0).any(axis=1)
    if small.mean() >= _FIT and (sizes > 2).all():
        return _of_annotations(
            'relative-boxes', 'error', where, table, known, f'of {len(boxes)} boxes have values from 0 to 1, '
            'so they seem to be relative, and are not used', 'multiply by width and height of the image')
    return None


def dropped_findings(table: AnnotationTable, where: str) -> Iterator[Finding]:
    """Annotations that mmdet drops without a message."""
    yield from _unused_boxes(table, where, ' and are not used')
    yield from _reference_findings(table, where)


def _unused_boxes(table, where, so) -> Iterator[Finding]:
    masks = table.doubtful()
    kinds = dict(
        without_size=('degenerate-box', 'boxes are smaller than 1 px, or have a negative size',
                      'correct them as [x, y, width, height], or remove them'),
        outside=('box-outside', 'boxes are entirely outside their image',
                 'correct them, or width and height of the image, or remove them'),
        without_area=('area', "annotations have an 'area' of zero or less",
                      'write width * height, or the area of the mask'))
    masks['outside'] &= ~table.flat  # reported with their images
    for kind, (check, what, fix) in kinds.items():
        yield from _if_any(check, where, table, masks[kind], what + so, fix)


def box_findings(table: AnnotationTable, where: str, *, dropped: bool = True) -> Iterator[Finding]:
    """Boxes without size, boxes that are partly or entirely outside their image, annotations without an area.

    Args:
        table (AnnotationTable): The annotations.
        where (str): Names dataset and file in the findings.
        dropped (bool): Whether the dataset drops boxes without size or area, and those outside their image.
    """
    yield from _unused_boxes(table, where, ' and are not used' if dropped else '')
    masks = table.doubtful()
    read = table.known & ~table.ignored & ~masks['without_size'] & ~masks['outside']
    huge = read & ~(np.abs(table.boxes) <= _HUGE).all(axis=1)
    if huge.any():
        yield _of_annotations('box-huge', 'error', where, table, huge, 'boxes are larger than any image, or '
                              'infinite', 'correct them as [x, y, width, height], or remove them')
    missing = read & ~table.has_area
    if missing.any():
        yield _of_annotations('no-area', 'error', where, table, missing,
                              "annotations have no 'area', so mmdet fails on the file",
                              'write width * height, or the area of the mask')
    yield from _if_any('box-beyond', where, table, read & ~table.flat & ~_inside(table),
                       f'boxes are outside their image by more than {_ROUNDING:g} px',
                       'clip them to the image, or correct its width and height')


def repeated_annotations(table: AnnotationTable, where: str) -> Iterator[Finding]:
    """Annotations that occur more than once: same image, category and box."""
    key = [(*rest, *box) for *rest, box in zip(
        table.images.tolist(), table.category_ids.tolist(), table.boxes.tolist())]
    seen, again = set(), np.zeros(len(key), dtype=bool)
    for row, each in enumerate(key):
        again[row] = each in seen
        seen.add(each)
    yield from _if_any('annotation-twice', where, table, again & _alone(table.ids) & table.known,
                       'annotations occur more than once, with the same image, category and box',
                       'remove the copies')


def _object_findings(summary, classes, where) -> Iterator[Finding]:
    """What training lacks. An evaluation is checked with its evaluator."""
    table = summary.table
    why = why_nothing_to_learn(summary, classes)
    if why:
        yield Finding(
            'no-objects', 'error', where, f'none of {len(table.ids)} annotations can be used for training, '
            f'because {why}', 'correct the file', len(table.ids))
        return
    ids = {category['name']: category['id'] for category in summary.categories}
    there = set(table.category_ids[used_annotations(summary, classes) & ~table.crowd].tolist())
    none = [name for name in classes if ids[name] not in there]
    if none:
        yield finding_of(none, 'class-without-objects', 'warning', where, f'of the {len(classes)} classes '
                         'have no object for training', 'add some, or remove the classes', shown=8)


def _inside(table):
    first, last = table.boxes[:, :2], table.boxes[:, :2] + table.boxes[:, 2:]
    return ((first >= -_ROUNDING) & (last <= table.box_sizes + _ROUNDING)).all(axis=1)


def _repeated(values) -> List:
    """Values that occur more than once, except None."""
    seen, repeated = set(), {}
    for value in values:
        if value in seen and value is not None:
            repeated[value] = True
        seen.add(value)
    return list(repeated)


def _alone(ids) -> np.ndarray:
    """Whether an id occurs once. Repeated ids have a finding already."""
    repeated = set(_repeated(ids.tolist()))
    return np.array([each not in repeated for each in ids.tolist()], dtype=bool)


def _if_any(check, where, table, mask, what, fix) -> Iterator[Finding]:
    if mask.any():
        yield _of_annotations(check, 'warning', where, table, mask, what, fix)


def _of_annotations(check, grade, where, table: AnnotationTable, mask, what, fix) -> Finding:
    def words(row):
        image = table.images[row]
        of = f'image {table.image_ids[image]}, {table.file_names[image]}' if image >= 0 else 'no image'
        return f'annotation {table.ids[row]} of {of}'

    return finding_of(np.flatnonzero(mask), check, grade, where, what, fix, words=words)
