"""What a solution says in words, and where a tolerance ends it."""

from typing import Dict, Mapping, Optional

from .solving import Solution


def stop_of(solution: Solution, limits: Mapping[str, float]) -> Optional[int]:
    """Where a prediction with a tolerance ends.

    It takes steps until one of them moves no part further than its limit, and one refinement more.

    Args:
        solution (Solution): The path.
        limits (Mapping[str, float]): ``content``, relative, and ``position``, in pixels of the network's
            input; both, or one of them.

    Returns:
        int, optional: Refinements of such a prediction, 2 to T. None where it would take more than T, and
        without limits.
    """
    if not limits:
        return None
    residuals = solution.image.residuals
    for step in range(1, solution.image.refinements):
        if all(residuals[part][step - 1] <= limit for part, limit in limits.items()):
            return step + 1
    return None


def status_of(solution: Solution, refinements: int, score: float, limits: Mapping[str, float]) -> str:
    """What was done and what is shown, in Markdown.

    Args:
        solution (Solution): The path.
        refinements (int): 0 to T.
        score (float): Only detections with a score above it are shown.
        limits (Mapping[str, float]): See :func:`stop_of`.
    """
    image = solution.image
    height, width = image.picture.shape[:2]
    count = len(solution.detections(refinements, score))
    said = [f'**{_times(refinements, "refinement")}: {_times(count, "detection")}** with a score above '
            f'{solution.threshold(refinements, score):.2f} in {solution.name} ({width} x {height})']
    setting = solution.settings[refinements]
    given = [f'what a prediction with `{setting}` gives' if setting else 'before any refinement']
    if refinements:
        residuals = residuals_of(solution, refinements)
        given.append(f'the last refinement moved content by {residuals["content"]:.2g} of its length and '
                     f'boxes by {residuals["position"]:.2g} px')
    said.append('; '.join(given))
    until_here, all_of_it = (1e3 * image.seconds[k] for k in (refinements, -1))
    said.append(f'{solution.solver} solved {image.refinements} refinements in {all_of_it:.0f} ms, '
                f'{until_here:.0f} ms of them up to here')
    if limits:
        stop = stop_of(solution, limits)
        told = ' and '.join(f'{part} <= {limit:g}' for part, limit in limits.items())
        said.append(f'tolerance {told}: ' + (
            f'not reached within {image.refinements} refinements' if stop is None else
            f'reached at step {stop - 1}; with the final refinement that is **{stop} refinements**'))
    return '  \n'.join(said)


def residuals_of(solution: Solution, refinements: int) -> Dict[str, float]:
    """How far the last refinement moved the state, by part; empty before the first."""
    return {part: float(lengths[refinements - 1]) for part, lengths in solution.image.residuals.items()
            if refinements}


def _times(count, word) -> str:
    return f'{count} {word}{"" if count == 1 else "s"}'
