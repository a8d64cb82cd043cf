"""What a visitor sees and may take along, as files of a folder that only this server has."""

import json
import uuid
from pathlib import Path
from typing import Mapping, NamedTuple

from ..images.drawing import DRAWING
from .reading import results_of
from .showing import curve_of, picture_of
from .solving import Solution


class ShownFiles(NamedTuple):
    """Files of what is shown.

    Attributes:
        picture (str): Image with boxes, PNG.
        curve (str): Residuals, PNG.
        results (str): Detections, JSON, see :func:`results_of`.
    """

    picture: str
    curve: str
    results: str


def write_files(folder: Path, solution: Solution, refinements: int, score: float,
                limits: Mapping[str, float]) -> ShownFiles:
    """Write what is shown.

    Args:
        folder (Path): Where. The files get a folder of their own in it, whose name nobody can guess.
        solution (Solution): The path.
        refinements (int): 0 to T.
        score (float): Only detections with a score above it.
        limits (Mapping[str, float]): Limits of a tolerance by part.
    """
    below = folder / uuid.uuid4().hex
    below.mkdir(mode=0o700)
    name = f'{Path(solution.name).stem or "image"}_{solution.solver}_{refinements:02d}'
    files = ShownFiles(*(str(below / f'{name}{end}') for end in ('.png', '_residuals.png', '.json')))
    with DRAWING:
        picture_of(solution, refinements, score).savefig(files.picture)
        curve_of(solution, refinements, limits).savefig(files.curve)
    Path(files.results).write_text(json.dumps(results_of(solution, refinements, score), indent=1),
                                   encoding='utf-8')
    return files
