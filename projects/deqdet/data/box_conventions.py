"""Boxes that are something else than upright [x, y, width, height] in pixels: rotated, or of another mode."""

import math
from typing import TYPE_CHECKING, Any, Iterator, List, Optional, Sequence

import numpy as np

from .findings import Finding

if TYPE_CHECKING:
    from .annotations import AnnotationTable

# Where programs write the angle of a box: CVAT and others among the attributes.
_ANGLES = ('rotation', 'angle', 'theta', 'rotate')
# detectron2's BoxMode of [x, y, width, height] in pixels, as number and in words.
_UPRIGHT = (1, 'XYWH_ABS', 'BoxMode.XYWH_ABS')
# Degrees; a box that is turned by less is upright.
_STRAIGHT = 0.5
# Overlap (IoU) below which a box is not that of its outline.
_ALIKE = 0.5
# Outlines that are compared with their boxes, spread over the file.
_COMPARED = 20000
_EXAMPLES = 3


def rotation_of(annotation: dict) -> float:
    """Angle of the box of an annotation, as the file has it; 0 where it has none."""
    attributes = annotation.get('attributes')
    for record in (annotation, attributes if isinstance(attributes, dict) else {}):
        for name in _ANGLES:
            try:
                angle = float(record.get(name) or 0)
            except (TypeError, ValueError, OverflowError):
                continue
            if math.isfinite(angle) and angle:
                return angle
    return 0.0


def of_another_mode(annotation: dict) -> bool:
    """Whether ``bbox_mode`` of an annotation is another than [x, y, width, height]."""
    mode = annotation.get('bbox_mode')
    return mode is not None and mode not in _UPRIGHT


def outlines(annotations: Sequence[dict]) -> np.ndarray:
    """Extents of the polygons in ``segmentation``, for some annotations of a large file.

    Args:
        annotations (Sequence[dict]): N annotations of a file in COCO's format.

    Returns:
        np.ndarray: (x1, y1, x2, y2) in pixels, NaN where there is no polygon, has shape (N, 4).
    """
    found = np.full((len(annotations), 4), np.nan)
    for row in range(0, len(annotations), -(-len(annotations) // _COMPARED) or 1):
        points = _points(annotations[row].get('segmentation'))
        if points is not None:
            found[row] = (*points.min(axis=0), *points.max(axis=0))
    return found


def _points(segmentation: Any) -> Optional[np.ndarray]:
    """Corners of polygons, has shape (K, 2); None if these are none."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    try:
        parts: List[np.ndarray] = [np.asarray(part, dtype=float).reshape(-1, 2) for part in segmentation]
    except (TypeError, ValueError, OverflowError):
        return None
    points = np.concatenate(parts)
    return points if len(points) > 2 and np.isfinite(points).all() else None


def convention_findings(table: 'AnnotationTable', where: str) -> Iterator[Finding]:
    """Boxes that are not what they seem to be; training takes all of them as upright.

    Args:
        table (AnnotationTable): The annotations.
        where (str): Names dataset and file in the findings.
    """
    # A half turn leaves a box where it is.
    turned = np.abs((table.rotations + 90) % 180 - 90) > _STRAIGHT
    if turned.any():
        yield _finding('rotated-boxes', where, table, turned, 'boxes have a rotation, and are taken as '
                       'upright without it', 'write the upright box around each rotated one',
                       [f' by {angle:g}' for angle in table.rotations])
    if table.other_mode.any():
        yield _finding('box-mode', where, table, table.other_mode, "boxes have a 'bbox_mode' that is not "
                       'XYWH_ABS, and are taken as [x, y, width, height]', 'write them as these')
    apart = _overlap(table) < _ALIKE
    apart &= ~turned & ~table.other_mode & ~table.crowd
    if apart.any():
        yield _finding('box-outline', where, table, apart, "boxes have little in common with the polygons of "
                       "their 'segmentation'", 'look at them: rotated boxes, or polygons of another image '
                       'size; the box must enclose the polygon')


def _overlap(table) -> np.ndarray:
    """IoU of each box with the extent of its polygons; infinite where there are none."""
    x1, y1, x2, y2 = table.outlines.T
    left, top, width, height = table.boxes.T
    with np.errstate(invalid='ignore', divide='ignore'):
        sides = (np.minimum(x2, left + width) - np.maximum(x1, left)).clip(min=0), (
            np.minimum(y2, top + height) - np.maximum(y1, top)).clip(min=0)
        common = sides[0] * sides[1]
        overlap = common / ((x2 - x1) * (y2 - y1) + width * height - common)
    return np.where(np.isfinite(overlap), overlap, np.inf)


def _finding(check, where, table, mask, what, mend, more=None) -> Finding:
    rows = np.flatnonzero(mask)
    return Finding(check, 'warning', where, f'{len(rows)} of {len(mask)} {what}', mend, len(rows),
                   tuple(f'annotation {table.ids[row]}{more[row] if more else ""}'
                         for row in rows[:_EXAMPLES]))
