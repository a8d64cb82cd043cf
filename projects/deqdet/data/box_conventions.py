"""Boxes that are not upright [x, y, width, height] in pixels: rotated boxes, and those with another mode."""

from typing import Iterator

import numpy as np

from .annotations import AnnotationTable
from .findings import Finding, finding_of

# Degrees. A box with a smaller angle counts as upright.
_STRAIGHT = 0.5
# If box and outline overlap (IoU) by less than this, they do not belong together.
_ALIKE = 0.5


def convention_findings(table: AnnotationTable, where: str) -> Iterator[Finding]:
    """Boxes that are not what they seem to be; training reads all of them as upright."""
    # A half turn does not change a box.
    turned = np.abs((table.rotations + 90) % 180 - 90) > _STRAIGHT
    if turned.any():
        yield _finding('rotated-boxes', where, table, turned, 'boxes have a rotation, which is '
                       'ignored', 'write the upright box around each rotated one',
                       [f' by {angle:g}' for angle in table.rotations])
    if table.other_mode.any():
        yield _finding('box-mode', where, table, table.other_mode, "boxes have a 'bbox_mode' that is not "
                       'XYWH_ABS, but they are read as [x, y, width, height]', 'convert them to this form')
    apart = _overlap(table) < _ALIKE
    apart &= ~turned & ~table.other_mode & ~table.crowd
    if apart.any():
        yield _finding('box-outline', where, table, apart, "boxes do not fit the polygons of their "
                       "'segmentation'", 'check them: the boxes are rotated, or the polygons are for another '
                       'image size; the box must enclose the polygon')


def _overlap(table) -> np.ndarray:
    """IoU of each box with the extent of its polygons; infinite if there are no polygons."""
    x1, y1, x2, y2 = table.outlines.T
    left, top, width, height = table.boxes.T
    with np.errstate(invalid='ignore', divide='ignore'):
        sides = (np.minimum(x2, left + width) - np.maximum(x1, left)).clip(min=0), (
            np.minimum(y2, top + height) - np.maximum(y1, top)).clip(min=0)
        common = sides[0] * sides[1]
        overlap = common / ((x2 - x1) * (y2 - y1) + width * height - common)
    return np.where(np.isfinite(overlap), overlap, np.inf)


def _finding(check, where, table, mask, what, fix, more=None) -> Finding:
    return finding_of(np.flatnonzero(mask), check, 'warning', where, f'of {len(mask)} {what}', fix,
                      words=lambda row: f'annotation {table.ids[row]}{more[row] if more else ""}')
