"""Boxes with labels, and masks, on a picture."""

import colorsys
import math
import threading
from typing import Any, List, Sequence, Tuple

import cv2
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .fonts import families_for

#: Held while a figure is drawn, because matplotlib is not thread-safe.
DRAWING = threading.Lock()
#: Pictures with a shorter long side than this, in pixels, are smoothed, because they are enlarged.
LEAST_SIDE = 480


def distinct_colour(rank: int) -> Tuple[float, float, float]:
    """The colour with this number, RGB from 0 to 1. The first colours have very different hues."""
    golden = (math.sqrt(5) - 1) / 2
    return colorsys.hsv_to_rgb((0.02 + rank * golden) % 1, 0.85, 1.0)


def show_picture(axes: Axes, picture: np.ndarray, dim: float = 0.0) -> None:
    """Show a picture so that pixel i reaches from i to i + 1.

    Args:
        axes (Axes): Where to draw.
        picture (np.ndarray): RGB, uint8, has shape (H, W, 3).
        dim (float): Share of the brightness to remove.
    """
    height, width = picture.shape[:2]
    smooth = max(height, width) < LEAST_SIDE
    axes.imshow((picture * (1 - dim)).astype(np.uint8), extent=(0, width, height, 0),
                interpolation='bicubic' if smooth else 'auto')
    axes.set_axis_off()


def tint(picture: np.ndarray, mask: np.ndarray, colour: Sequence[float], share: float = 0.5) -> None:
    """Colour the pixels of a mask and its outline.

    Args:
        picture (np.ndarray): uint8, has shape (H, W, 3), changed in place.
        mask (np.ndarray): Booleans, has shape (H, W).
        colour (Sequence[float]): From 0 to 255, in the picture's order of channels.
        share (float): Share of the colour inside the outline.
    """
    picture[mask] = np.rint((1 - share) * picture[mask] + share * np.asarray(colour)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, [float(value) for value in colour])


def draw_box(axes: Axes, box: Sequence[float], colour: Any, width: float, order: float = 2.0,
             style: str = '-') -> None:
    """Draw the outline of a box, (x1, y1, x2, y2) in pixels; ``width`` is in points."""
    x1, y1, x2, y2 = box
    axes.add_patch(Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width, linestyle=style,
        zorder=order, path_effects=[patheffects.withStroke(linewidth=width + 1, foreground='black')]))


def label_box(axes: Axes, box: Sequence[float], text: str, colour: Any, *, shape: Sequence[int],
              taken: List[Tuple[float, float]], font: float, order: float = 4.0) -> None:
    """Write the label of a box where there is room.

    Args:
        axes (Axes): Where to draw.
        box (Sequence[float]): (x1, y1, x2, y2) in pixels.
        text (str): The label.
        colour (tuple): Its background, RGB from 0 to 1.
        shape (Sequence[int]): Height and width of the picture.
        taken (list[tuple]): Places of existing labels. This one is added.
        font (float): Size in points.
        order (float): Labels with a higher order lie on top.
    """
    x, y, side = _place(box, shape, taken)
    taken.append((x, y))
    axes.text(x, y, text, fontsize=font, va=side, clip_on=True, zorder=order,
              family=families_for(text), color='black' if _is_bright(colour) else 'white',
              bbox=dict(facecolor=colour, edgecolor='none', alpha=0.85, pad=1))


def draw_masks(axes: Axes, masks: np.ndarray, colours: Sequence[Any], shape: Sequence[int]) -> None:
    """Draw masks as translucent areas.

    Args:
        axes (Axes): Where to draw.
        masks (np.ndarray): Booleans of the whole picture in any size, has shape (D, h, w). Where several
            overlap, the first is on top.
        colours (Sequence): Their colours, RGBA from 0 to 1; the picture shows through.
        shape (Sequence[int]): Height and width of the picture.
    """
    layer = np.zeros((*masks.shape[1:], 4), dtype=np.float32)
    for mask, colour in zip(masks[::-1], colours[::-1]):
        layer[mask] = colour
    axes.imshow(layer, extent=(0, shape[1], shape[0], 0), interpolation='nearest')


def _place(box, shape, taken):
    """Place of a label: above the box, below it, or else inside, but not on another label."""
    height, width = shape[:2]
    x = min(max(box[0], 0), 0.82 * width)
    top, bottom = (min(max(y, 0), height) for y in box[1::2])
    places = [(x, top, 'bottom'), (x, bottom, 'top'), (x, top, 'top'), (x, bottom, 'bottom')]
    line = 0.055 * width
    inside = [place for place in places if line <= place[1] or place[2] == 'top']
    inside = [place for place in inside if place[1] <= height - line or place[2] == 'bottom']
    free = [place for place in inside if all(
        abs(place[0] - x) > 0.2 * width or abs(place[1] - y) > line for x, y in taken)]
    return (free or inside or places)[0]


def _is_bright(colour):
    red, green, blue = colour
    return 0.3 * red + 0.59 * green + 0.11 * blue > 0.45
