"""Write what a visitor sees and may download, in a private folder of this server."""

import uuid
from pathlib import Path
from typing import Mapping, NamedTuple

from mmdet.structures import DetDataSample

from ..images.drawing import DRAWING
from ..inference.results import record_of, write_coco
from .reading import residuals_of
from .showing import curve_of, picture_of
from .solving import Solution


class ShownFiles(NamedTuple):
    """Paths of the files behind the page.

    Attributes:
        picture (str): Image with boxes, PNG.
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
        picture_of(solution, refinements, score).savefig(files.picture)
        curve_of(solution, refinements, limits).savefig(files.curve)
    write_results(Path(files.results), solution, refinements, score)
    return files


def write_results(path: Path, solution: Solution, refinements: int, score: float) -> None:
    """Write the shown detections in COCO's format, as ``deqdet detect`` does."""
    sample = DetDataSample(metainfo=dict(ori_shape=solution.image.picture.shape[:2]))
    sample.pred_instances = solution.detections(refinements, score)
    record = record_of(sample, name=solution.name, input=solution.name)
    write_coco(path, lambda: [record], solution.image.classes, dict(
        description='detections of DEQDet', solver=solution.solver, refinements=refinements,
        score_above=solution.threshold(refinements, score), residuals=residuals_of(solution, refinements)))
