"""Properties of a box in an annotation beside the four numbers: rotation, mode and outline."""

import math
from typing import Any, List, Optional, Sequence

import numpy as np

# Keys for the angle of a box. CVAT and others write it among the attributes.
_ANGLES = ('rotation', 'angle', 'theta', 'rotate')
# detectron2's BoxMode for [x, y, width, height] in pixels, as a number and in words.
_UPRIGHT = (1, 'XYWH_ABS', 'BoxMode.XYWH_ABS')
# At most this many outlines are compared with their boxes, spread over the file.
_COMPARED = 20000


def rotation_of(annotation: dict) -> float:
    """Angle of the box of an annotation as in the file; 0 if it has none."""
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
    """Whether ``bbox_mode`` of an annotation is not [x, y, width, height]."""
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
    """Corners of polygons, has shape (K, 2); None if the value holds no polygons."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    try:
        parts: List[np.ndarray] = [np.asarray(part, dtype=float).reshape(-1, 2) for part in segmentation]
    except (TypeError, ValueError, OverflowError):
        return None
    points = np.concatenate(parts)
    return points if len(points) > 2 and np.isfinite(points).all() else None
