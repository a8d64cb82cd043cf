"""What a visitor sees of a solution: words, pictures, and files to download."""

import uuid
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator
from mmdet.structures import DetDataSample

from ..analysis.pictures import box_frame
from ..images.drawing import DRAWING
from ..inference.results import record_of, write_coco
from .solving import Solution

# Units of the residuals.
_UNITS = dict(content='share of its length', position='px of the input')
_COLOURS = dict(content='tab:blue', position='tab:orange')
# Positions of the panels, as fractions of the figure.
_PLACES = dict(left=0.17, right=0.97, top=0.95, bottom=0.09, hspace=0.17)


class ShownFiles(NamedTuple):
    """Paths of the files behind the page.

    Attributes:
        picture (str): Image with boxes and masks, PNG.
        curve (str): Residuals, PNG.
        results (str): Detections, JSON, see :func:`write_results`.
    """

    picture: str
    curve: str
    results: str


def write_files(folder: Path, solution: Solution, refinements: int, score: float,
                limits: Mapping[str, float]) -> ShownFiles:
    """Write what is shown into a new folder with an unguessable name.

    Args:
        folder (Path): Parent of the new folder.
        solution (Solution): The path.
        refinements (int): 0 to T.
        score (float): Only detections above this score.
        limits (Mapping[str, float]): Limits of a tolerance by part.
    """
    below = folder / uuid.uuid4().hex
    below.mkdir(mode=0o700)
    name = f'{Path(solution.name).stem or "image"}_{solution.solver}_{refinements:02d}'
    files = ShownFiles(*(str(below / f'{name}{end}') for end in ('.png', '_residuals.png', '.json')))
    with DRAWING:
        # Boxes that reach the score only at the end are dashed.
        box_frame(solution.image, refinements, score=solution.threshold(refinements, score)).savefig(
            files.picture)
        curve_of(solution, refinements, limits).savefig(files.curve)
    write_results(Path(files.results), solution, refinements, score)
    return files


def write_results(path: Path, solution: Solution, refinements: int, score: float) -> None:
    """Write the shown detections in COCO's format, as ``deqdet detect`` does, with masks if there are any."""
    sample = DetDataSample(metainfo=dict(ori_shape=solution.image.picture.shape[:2]))
    found = solution.detections(refinements, score)
    sample.pred_instances = found = found[found.bboxes.isfinite().all(1)]
    if solution.image.masks is not None:
        found.masks = solution.image.masks.encode(refinements, found)
    record = record_of(sample, name=solution.name, input=solution.name)
    write_coco(path, lambda: [record], solution.image.classes, dict(
        description='detections of DEQDet', solver=solution.solver, refinements=refinements,
        score_above=solution.threshold(refinements, score), residuals=residuals_of(solution, refinements)))


def stop_of(solution: Solution, limits: Mapping[str, float]) -> Optional[int]:
    """Number of refinements with a tolerance: up to the first step within all limits, plus one.

    Args:
        solution (Solution): The path.
        limits (Mapping[str, float]): ``content``, relative, or ``position``, in pixels of the network's
            input, or both.

    Returns:
        int, optional: Refinements of such a prediction, 2 to T. None if it takes more, or without limits.
    """
    residuals = solution.image.residuals
    if not limits:
        return None
    solved = np.all([residuals[part][:-1] <= limit for part, limit in limits.items()], axis=0)
    return int(solved.argmax()) + 2 if solved.any() else None


def status_of(solution: Solution, refinements: int, score: float, limits: Mapping[str, float]) -> str:
    """Describe the computation and the shown detections, in Markdown.

    Args:
        solution (Solution): The path.
        refinements (int): 0 to T.
        score (float): Only detections above this score are shown.
        limits (Mapping[str, float]): See :func:`stop_of`.
    """
    image, setting = solution.image, solution.settings[refinements]
    height, width = image.picture.shape[:2]
    given = f'the result of a prediction with `{setting}`' if setting else 'before any refinement'
    if refinements:
        residuals = residuals_of(solution, refinements)
        given += (f'; the last refinement moved content by {residuals["content"]:.2g} of its length and '
                  f'boxes by {residuals["position"]:.2g} px')
    until_here, all_of_it = (1e3 * image.seconds[k] for k in (refinements, -1))
    lines = [
        f'**{_times(refinements, "refinement")}: '
        f'{_times(len(solution.detections(refinements, score)), "detection")}** with a score above '
        f'{solution.threshold(refinements, score):.2f} in {solution.name} ({width} x {height})', given,
        f'{solution.solver} solved {image.refinements} refinements in {all_of_it:.0f} ms, '
        f'{until_here:.0f} ms of them up to here']
    if limits:
        stop = stop_of(solution, limits)
        told = ' and '.join(f'{part} <= {limit:g}' for part, limit in limits.items())
        lines.append(f'tolerance {told}: ' + (
            f'not reached within {image.refinements} refinements' if stop is None else
            f'reached at step {stop - 1}; with the final refinement that is **{stop} refinements**'))
    return '  \n'.join(lines)


def residuals_of(solution: Solution, refinements: int) -> Dict[str, float]:
    """How far the last refinement moved the state, by part; empty before the first."""
    return {part: float(lengths[refinements - 1]) for part, lengths in solution.image.residuals.items()
            if refinements}


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


def _times(count, word) -> str:
    return f'{count} {word}{"" if count == 1 else "s"}'
