"""Describe a solution in words, and find where a tolerance ends it."""

from typing import Dict, Mapping, Optional

import numpy as np

from .solving import Solution


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


def _times(count, word) -> str:
    return f'{count} {word}{"" if count == 1 else "s"}'
