"""Pictures of the refinement of one image: boxes and masks by step, and sampling points of queries."""

import math
from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mmengine.structures import InstanceData

from ..images.drawing import LEAST_SIDE, distinct_colour, draw_box, draw_masks, label_box, show_picture
from .image import FollowedImage

# Share of the colour in the areas of masks, and of those in dashed boxes; the rest is the picture.
_ALPHA, _FAINT = 0.45, 0.22
# Smallest and largest long side of a frame in pixels: small images are enlarged, large ones reduced.
_FRAME_SIDES = (LEAST_SIDE, 800)
_FRAME_DPI = 100
# Panels in a row, and the width of one in inches.
_COLUMNS = 3
_PANEL_WIDTH = 2.8
# Most lines of a label.
_LINES = 3
# Largest margin around the image, as a share of its size, that shows points outside of it.
_MARGIN = 0.25


def box_frame(image: FollowedImage, refinements: int, *, score: float) -> Figure:
    """A picture of boxes and masks after some refinements; its size does not depend on their number.

    Args:
        image (FollowedImage): The image.
        refinements (int): 0 to T.
        score (float): Boxes with a score above it are drawn, with their masks.
    """
    height, width = image.picture.shape[:2]
    factor = float(np.clip(max(height, width), *_FRAME_SIDES)) / max(height, width)
    height, width = (max(1, round(factor * side)) for side in (height, width))
    title, canvas = 30, max(width, 360)
    figure = Figure(figsize=(canvas / _FRAME_DPI, (height + title) / _FRAME_DPI), dpi=_FRAME_DPI)
    axes = figure.add_axes((0.5 - 0.5 * width / canvas, 0, width / canvas, height / (height + title)))
    draw_boxes(axes, image, refinements, score=score, font=10)
    figure.text(8 / canvas, 1 - 0.5 * title / (height + title), _title(image, refinements), va='center',
                fontsize=11)
    return figure


def box_strip(image: FollowedImage, steps: Sequence[int], *, score: float) -> Figure:
    """Boxes and masks after several numbers of refinements (0 to T) side by side, see :func:`box_frame`."""
    figure, panels = _panels(image.picture.shape, len(steps))
    for axes, k in zip(panels, steps):
        draw_boxes(axes, image, k, score=score, font=8)
        axes.set_title(_title(image, k), fontsize=8)
    return figure


def point_strip(image: FollowedImage, steps: Sequence[int], queries: Sequence[int]) -> Figure:
    """Sampling points of some queries in several refinements side by side, one panel per refinement.

    The box is the input of the refinement. The size of a point shows its scale: it samples mostly from the
    level whose log2 stride is closest to its z.

    Args:
        image (FollowedImage): An image with sampling points.
        steps (Sequence[int]): Refinements, counted from 1.
        queries (Sequence[int]): Queries to show.
    """
    assert image.points is not None
    (left, right), (top, bottom) = _limits(image, steps, queries)
    figure, panels = _panels((bottom - top, right - left), len(steps), legend=True)
    colours = _colours(image)
    for axes, k in zip(panels, steps):
        show_picture(axes, image.picture, dim=0.45)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        outside = 0
        for query in reversed(queries):
            draw_box(axes, image.asked[k - 1][query], colours[query], width=1.2)
            x, y, z = image.points[k - 1][query].reshape(-1, 3).T
            axes.scatter(x, y, s=_diameter(z, image.strides) ** 2, color=[colours[query]], edgecolors='black',
                         linewidths=0.4, zorder=3)
            outside += int(((x < left) | (x > right) | (y < top) | (y > bottom)).sum())
        note = f' ({outside} beyond the picture)' if outside else ''
        axes.set_title(f'points of refinement {k}{note}', fontsize=8)
    figure.legend(
        handles=_scales(image.strides), loc='lower center', ncols=len(image.strides), fontsize=8,
        frameon=False, title='size of a point: z, log2 of the stride at which it samples', title_fontsize=8)
    return figure


def draw_boxes(axes: Axes, image: FollowedImage, refinements: int, *, score: float, font: float) -> None:
    """Draw the image, and its boxes and masks after some refinements, coloured by query.

    A box is dashed, has no label, and its mask is faint, if its score is above ``score`` only after the last
    refinement. The mask of a query is that of its best class.

    Args:
        axes (Axes): Axes to draw on.
        image, refinements, score: See :func:`box_frame`.
        font (float): Size of the labels in points.
    """
    show_picture(axes, image.picture)
    colours = _colours(image)
    found, last = image.detections[refinements], image.detections[-1]
    surely = set(last.queries[last.scores > score].tolist())
    shape, taken = image.picture.shape, []
    if image.masks is not None:
        best = _best_of_queries(found)
        solid = best.scores > score
        best = best[solid | torch.isin(best.queries, last.queries[last.scores > score])]
        alphas = [_ALPHA] * int(solid.sum()) + [_FAINT] * int(len(best) - solid.sum())
        masks = image.masks.compute(refinements, best, _mask_shape(shape))
        draw_masks(axes, masks.numpy(), [
            (*colours[query], alpha) for query, alpha in zip(best.queries.tolist(), alphas)], shape)
    # Best first: its label gets the best place, and its box is on top.
    for rank, query in enumerate(image.best_queries(refinements=refinements)):
        each = found[(found.queries == query) & (found.scores > score)]
        if len(each):
            box = each.bboxes[0].tolist()
            draw_box(axes, box, colours[query], width=2, order=3 - 1e-3 * rank)
            label_box(axes, box, _caption(each, image.classes), colours[query], shape=shape, taken=taken,
                      font=font, order=4 - 1e-3 * rank)
        elif query in surely:
            box = found.bboxes[found.queries == query][0].tolist()
            draw_box(axes, box, colours[query], width=1.4, order=2, style='--')


def steps_of_a_strip(refinements: int) -> List[int]:
    """Numbers of refinements to show: dense at the start, where boxes move most, and the last one."""
    return [k for k in (0, 1, 2, 4, 8, 12) if k < refinements][:5] + [refinements]


def _caption(found, classes) -> str:
    """The best classes of one query with their scores."""
    lines = [f'{classes[label]} {value:.2f}'
             for label, value in zip(found.labels.tolist(), found.scores.tolist())]
    return '\n'.join(lines[:_LINES] + ([f'and {len(lines) - _LINES} more'] if len(lines) > _LINES else []))


def _best_of_queries(found: InstanceData) -> InstanceData:
    """The detection with the highest score of each query, the best first."""
    found = found[found.scores.argsort(descending=True, stable=True)]
    rows = {query: row for row, query in reversed(list(enumerate(found.queries.tolist())))}
    return found[torch.tensor(sorted(rows.values()), dtype=torch.long)]


def _mask_shape(shape) -> Tuple[int, int]:
    """Height and width of drawn masks: no larger than a frame."""
    factor = min(1.0, _FRAME_SIDES[1] / max(shape[:2]))
    return max(1, round(factor * shape[0])), max(1, round(factor * shape[1]))


def _title(image, refinements) -> str:
    if not refinements:
        return '0 refinements (initialisation layer)'
    plural = 's' if refinements > 1 else ''
    unit = ' px of the input' if image.resized else ' px'
    residual = image.residuals['position'][refinements - 1]
    digits = f'{residual:.2g}' if residual < 10 else f'{residual:.0f}'
    return f'{refinements} refinement{plural}, residual {digits}{unit}'


def _colours(image) -> Dict[int, Tuple[float, float, float]]:
    """A colour for each query; the best queries get very different hues."""
    return {query: distinct_colour(rank) for rank, query in enumerate(image.best_queries())}


def _panels(shape, count, legend=False):
    """A figure with a grid of panels for pictures of this shape."""
    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    height = _PANEL_WIDTH * shape[0] / shape[1] + 0.22
    bottom = 0.5 if legend else 0.0
    total = rows * height + bottom
    figure = Figure(figsize=(columns * _PANEL_WIDTH, total))
    figure.set_layout_engine('constrained', rect=(0, bottom / total, 1, 1 - bottom / total))
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _diameter(z, strides):
    """Diameter of a marker in points by its scale, clipped one octave beyond the levels."""
    lowest, highest = math.log2(min(strides)) - 1, math.log2(max(strides)) + 1
    return 1.5 + 1.3 * (np.clip(z, lowest, highest) - lowest)


def _scales(strides):
    """Legend of the marker sizes."""
    return [Line2D([], [], linestyle='none', marker='o', color='grey', markeredgecolor='black',
                   markeredgewidth=0.4, markersize=_diameter(math.log2(stride), strides),
                   label=f'{math.log2(stride):g} (stride {stride})') for stride in strides]


def _limits(image, steps, queries):
    """Ranges of x and y to show: the image, and the points within the margin around it."""
    shown = np.concatenate([image.points[k - 1][queries][..., :2].reshape(-1, 2) for k in steps])
    size = np.array(image.picture.shape[1::-1])
    lowest = np.maximum(np.minimum(shown.min(0) - 0.02 * size, 0), -_MARGIN * size)
    highest = np.minimum(np.maximum(shown.max(0) + 0.02 * size, size), (1 + _MARGIN) * size)
    return zip(lowest, highest)
