"""Draw a solution."""

from typing import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator

from ..analysis.pictures import box_frame
from .reading import stop_of
from .solving import Solution

# Units of the residuals.
_UNITS = dict(content='share of its length', position='px of the input')
_COLOURS = dict(content='tab:blue', position='tab:orange')
# Positions of the panels, as fractions of the figure.
_PLACES = dict(left=0.17, right=0.97, top=0.95, bottom=0.09, hspace=0.17)


def picture_of(solution: Solution, refinements: int, score: float) -> Figure:
    """The image with its boxes.

    Args:
        solution (Solution): The path.
        refinements (int): 0 to T.
        score (float): Boxes above this score are drawn; dashed if they reach it only at the end.
    """
    return box_frame(solution.image, refinements, score=solution.threshold(refinements, score))


def curve_of(solution: Solution, refinements: int, limits: Mapping[str, float]) -> Figure:
    """Residuals of every refinement, one panel per part, with a mark at the shown refinement.

    Args:
        solution (Solution): The path.
        refinements (int): 0 to T.
        limits (Mapping[str, float]): Limits of a tolerance by part, see :func:`stop_of`.
    """
    # The positions are fixed, since computing a layout takes longer than drawing.
    figure = Figure(figsize=(4.2, 5.2), dpi=100)
    stop, parts = stop_of(solution, limits), solution.image.residuals
    panels = figure.subplots(len(parts), 1, sharex=True, gridspec_kw=_PLACES)
    for axes, (part, lengths) in zip(panels, parts.items()):
        _draw_residuals(axes, lengths, colour=_COLOURS[part])
        _mark(axes, refinements, lengths)
        if part in limits:
            axes.axhline(limits[part], color='tab:green', linestyle='--', linewidth=1.2)
        if stop is not None:
            axes.axvline(stop - 1, color='tab:green', linestyle=':', linewidth=1.5)
        axes.set_title(_title(part, refinements, lengths), fontsize=9)
        axes.set_ylabel(_UNITS[part], fontsize=9)
    panels[-1].set_xlabel('refinement' + (' (green: tolerance)' if limits else ''), fontsize=9)
    return figure


def _draw_residuals(axes, lengths, *, colour):
    count = len(lengths)
    # A logarithmic axis cannot show a refinement that moved nothing.
    lengths = np.where(lengths > 0, lengths, np.nan)
    axes.plot(range(1, count + 1), lengths, '.-', color=colour, markersize=4, linewidth=1.2)
    if np.isfinite(lengths).any():
        axes.set_yscale('log')
        # Powers as plain text are much faster to draw.
        axes.yaxis.set_major_formatter(LogFormatter(minor_thresholds=(0, 0)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0, count + 0.5)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _mark(axes, refinements, lengths):
    """Mark the position of the slider."""
    axes.axvline(refinements, color='black', linewidth=1)
    if refinements and lengths[refinements - 1] > 0:
        axes.plot(refinements, lengths[refinements - 1], 'o', color='black', markersize=7)


def _title(part, refinements, lengths) -> str:
    if not refinements:
        return f'{part}: how far each refinement moves it'
    return f'{part}: refinement {refinements} moved it by {lengths[refinements - 1]:.2g}'
