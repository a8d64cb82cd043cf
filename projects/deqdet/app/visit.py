"""The state and the view of one visitor."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional, TypeGuard

from ..errors import UsageError, first_line
from ..model.heads.solving import build_tolerance
from .showing import ShownFiles, status_of, stop_of, write_files
from .solving import LEAST_SCORE, Playground, Solution

#: The highest score limit; the lowest is ``LEAST_SCORE``.
MOST_SCORE = 0.95


@dataclass(frozen=True, eq=False)
class Visit:
    """An uploaded image and its solutions, for one browser session.

    Attributes:
        path (str): The image file.
        solutions (dict[str, Solution]): By solver.
    """

    path: str
    solutions: Mapping[str, Solution] = field(default_factory=dict)


class Settings(NamedTuple):
    """Values of the controls. A field may hold any number; None means empty.

    Attributes:
        solver (str): A key of ``SOLVERS``.
        refinements (float, optional): Position of the slider.
        score (float, optional): Only boxes above this score are shown.
        stops (bool): Whether to use a tolerance.
        content, position (float, optional): Its limits.
    """

    solver: str
    refinements: Optional[float]
    score: Optional[float]
    stops: bool
    content: Optional[float]
    position: Optional[float]

    @property
    def limits(self) -> Dict[str, float]:
        """Limits by part; empty without a tolerance. Raises a UsageError for a missing or negative limit."""
        if not self.stops:
            return {}
        limits = {part: limit for part, limit in (('content', self.content), ('position', self.position))
                  if limit is not None}
        if not limits:
            raise UsageError('the tolerance has no limit: fill in one of its two fields, or turn it off',
                             'bad-argument')
        build_tolerance(limits, name='tolerance')
        return limits


class Shown(NamedTuple):
    """What the page shows.

    Attributes:
        visit (Visit, optional): State for the next event. None if nothing is shown.
        refinements (int, optional): New position of the slider. None leaves its field empty.
        files (ShownFiles, optional): Picture, curve, results. None if nothing is shown.
        status (str): The result or the error, in Markdown.
    """

    visit: Optional[Visit]
    refinements: Optional[int]
    files: Optional[ShownFiles]
    status: str


def show(playground: Playground, folder: Path, visit: Optional[Visit], path: Optional[str],
         settings: Settings, *, jump: bool = False) -> Shown:
    """Show an image with the given controls, solving only what is not solved yet.

    Args:
        playground (Playground): The model.
        folder (Path): Folder for the files.
        visit (Visit, optional): The state after the last event.
        path (str, optional): The current image.
        settings (Settings): The controls. A number out of its range is clipped.
        jump (bool): Go to the end of the path by the tolerance, wherever the slider is.

    Returns:
        Shown: For bad input its status is one line and nothing else is shown.
    """
    refinements = None
    if _is_number(settings.refinements):
        refinements = int(min(max(settings.refinements, 0), playground.refinements))
    if path is None:
        return Shown(None, refinements, None, 'No image yet: drop one on the left.')
    try:
        if refinements is None:
            raise UsageError(f'refinements is empty: fill in a number from 0 to {playground.refinements}',
                             'bad-argument')
        if not _is_number(settings.score):
            raise UsageError(f'the score is empty: fill in a number from {LEAST_SCORE} to {MOST_SCORE}',
                             'bad-argument')
        score = min(max(settings.score, LEAST_SCORE), MOST_SCORE)
        limits = settings.limits
        if visit is None or visit.path != path:
            visit = Visit(path)
        solution = visit.solutions.get(settings.solver)
        if solution is None:
            if not Path(path).exists():
                raise UsageError('the image is no longer on the server: drop it again', 'missing-file')
            solution = playground.solve(path, settings.solver)
            visit = Visit(path, {**visit.solutions, settings.solver: solution})
        if jump and (stop := stop_of(solution, limits)) is not None:
            refinements = stop
        files = write_files(folder, solution, refinements, score, limits)
    except UsageError as error:
        return Shown(visit, refinements, None, f'**Error:** {error.message}')
    except (RuntimeError, MemoryError) as error:
        return Shown(visit, refinements, None,
                     f'**Error:** the model cannot be applied to this image: {first_line(error)}')
    return Shown(visit, refinements, files, status_of(solution, refinements, score, limits))


def _is_number(value: Optional[float]) -> TypeGuard[float]:
    """Whether a field holds a number; an empty one holds None or NaN."""
    return isinstance(value, (int, float)) and not math.isnan(value)
