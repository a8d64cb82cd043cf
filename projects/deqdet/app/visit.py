"""What one visitor of the page looks at."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional, TypeGuard

from ..errors import UsageError
from .files import ShownFiles, write_files
from .reading import status_of, stop_of
from .solving import LEAST_SCORE, Playground, Solution

#: The highest score to ask for; the lowest is ``LEAST_SCORE``.
MOST_SCORE = 0.95


@dataclass(frozen=True, eq=False)
class Visit:
    """An image that was dropped, and what was solved of it; a session of the browser has its own.

    Attributes:
        path (str): The image file.
        solutions (dict[str, Solution]): By solver.
    """

    path: str
    solutions: Mapping[str, Solution] = field(default_factory=dict)


class Settings(NamedTuple):
    """What the controls of the page say: any number may be typed into a field, None is an empty one.

    Attributes:
        solver (str): A key of ``SOLVERS``.
        refinements (float, optional): Where the slider is.
        score (float, optional): Boxes with a score above it are shown.
        stops (bool): There is a tolerance.
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
        """Limits by part; empty without a tolerance.

        Raises:
            UsageError: If there is a tolerance without a limit, or a limit is negative.
        """
        if not self.stops:
            return {}
        limits = {part: limit for part, limit in (('content', self.content), ('position', self.position))
                  if limit is not None}
        if not limits:
            raise UsageError('the tolerance has no limit: fill in one of its two fields, or turn it off')
        for part, limit in limits.items():
            if not limit >= 0:
                raise UsageError(f'tolerance {part}={limit:g} must be 0 or more')
        return limits


class Shown(NamedTuple):
    """What the page shows.

    Attributes:
        visit (Visit, optional): To be kept until the next event. None where nothing is shown.
        refinements (int, optional): Where the slider belongs. None where its field is empty, and stays so.
        files (ShownFiles, optional): Picture, curve, results. None where nothing is shown.
        status (str): What was done, or what is wrong, in Markdown.
    """

    visit: Optional[Visit]
    refinements: Optional[int]
    files: Optional[ShownFiles]
    status: str


def show(playground: Playground, folder: Path, visit: Optional[Visit], path: Optional[str],
         settings: Settings, *, jump: bool = False) -> Shown:
    """Show an image as the controls say; what was solved before is not solved again.

    Args:
        playground (Playground): The model.
        folder (Path): Folder for the files.
        visit (Visit, optional): What the visitor looked at.
        path (str, optional): The image that is there now.
        settings (Settings): The controls. A number out of its range becomes the end of the range.
        jump (bool): Go to where the tolerance ends the path, wherever the slider is.

    Returns:
        Shown: Its status reports bad input in one line, and then nothing else is shown.
    """
    refinements = None
    if _is_number(settings.refinements):
        refinements = int(min(max(settings.refinements, 0), playground.refinements))
    if path is None:
        return Shown(None, refinements, None, 'No image yet: drop one on the left.')
    try:
        if refinements is None:
            raise UsageError(f'refinements is empty: fill in a number from 0 to {playground.refinements}')
        if not _is_number(settings.score):
            raise UsageError(f'the score is empty: fill in a number from {LEAST_SCORE} to {MOST_SCORE}')
        score = min(max(settings.score, LEAST_SCORE), MOST_SCORE)
        limits = settings.limits
        if visit is None or visit.path != path:
            visit = Visit(path)
        solution = visit.solutions.get(settings.solver)
        if solution is None:
            if not Path(path).exists():
                raise UsageError('the image is no longer kept here: drop it again')
            solution = playground.solve(path, settings.solver)
            visit = Visit(path, {**visit.solutions, settings.solver: solution})
        if jump and (stop := stop_of(solution, limits)) is not None:
            refinements = stop
        files = write_files(folder, solution, refinements, score, limits)
    except (UsageError, RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, UsageError):
            reason = f'the model cannot be applied to this image: {reason}'
        return Shown(visit, refinements, None, f'**Error:** {reason}')
    return Shown(visit, refinements, files, status_of(solution, refinements, score, limits))


def _is_number(value: Optional[float]) -> TypeGuard[float]:
    """An empty field is None or no number."""
    return isinstance(value, (int, float)) and not math.isnan(value)
