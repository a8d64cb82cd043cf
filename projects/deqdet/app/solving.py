"""Load a model, and solve an image's equilibrium once; the page later selects what to show."""

import argparse
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import List, Sequence

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from ..analysis import check_equilibrium
from ..analysis.image import FollowedImage, follow_image
from ..equilibrium import SOLVERS
from ..errors import UsageError
from ..images.pillow import open_picture
from ..inference import DEQDetInferencer, open_config

#: Lower scores are not kept, except for the best of each query.
LEAST_SCORE = 0.05
#: Images with more pixels are refused.
MOST_PIXELS = 40_000_000


@dataclass(frozen=True, eq=False)
class Solution:
    """The path of one image with one solver.

    Attributes:
        name (str): File name of the image.
        solver (str): A key of ``SOLVERS``.
        image (FollowedImage): The image after 0 to T refinements. It keeps detections above ``LEAST_SCORE``
            and the best of each query.
        floors (list[float]): For 0 to T refinements, the highest score that a prediction discards: it
            returns at most ``max_per_img`` detections, and none below ``score_thr``. 0 if it discards none.
        settings (list[str]): The ``test_cfg`` setting that makes a prediction take 0 to T refinements; empty
            if there is no such setting.
    """

    name: str
    solver: str
    image: FollowedImage
    floors: List[float]
    settings: List[str]

    def threshold(self, refinements: int, score: float) -> float:
        """The score above which detections are shown, if ``score`` is requested."""
        return max(score, LEAST_SCORE, self.floors[refinements])

    def detections(self, refinements: int, score: float) -> InstanceData:
        """The detections to show after a number of refinements, the best first.

        Args:
            refinements (int): 0 to T.
            score (float): Only detections above this score.

        Returns:
            :obj:`InstanceData`: ``scores``, ``labels``, ``bboxes`` in pixels of the image, and ``queries``.
        """
        found = self.image.detections[refinements]
        found = found[found.scores > self.threshold(refinements, score)]
        return found[found.scores.argsort(descending=True, stable=True)]


class Playground:
    """A model that solves images for several visitors, one at a time.

    Args:
        model (BaseModel): A detector in eval mode whose ``roi_head`` has a ``fixed_point_problem``.
        cfg (Config): The whole config, for its test pipeline.
        classes (Sequence[str]): Class names.
        refinements (int): T, the number of refinements to compute for every image, at least 1.
    """

    def __init__(self, model: BaseModel, cfg: Config, classes: Sequence[str], *, refinements: int) -> None:
        self.model = model
        self.cfg = cfg
        self.classes = classes
        self.refinements = refinements
        self._one_at_a_time = threading.Lock()

    @property
    def predicted(self) -> int:
        """Number of refinements of a prediction with this config, at most T."""
        return min(self.model.roi_head.prediction.refinements, self.refinements)

    @property
    def masks(self) -> bool:
        """Whether the model has masks."""
        return self.model.roi_head.with_mask

    @property
    def solver(self) -> str:
        """The solver of the config."""
        return self.model.roi_head.prediction.solver.kind

    @property
    def tolerance(self) -> dict:
        """Limits of the config's tolerance by part; empty without a tolerance."""
        tolerance = self.model.roi_head.prediction.tolerance
        return {} if tolerance is None else {part: limit for part, (_, limit) in tolerance.parts.items()}

    def solve(self, path: str, solver: str) -> Solution:
        """Compute T refinements of an image.

        Args:
            path (str): The image file.
            solver (str): A key of ``SOLVERS``. It uses the config's arguments if that has the same solver.

        Raises:
            UsageError: If the file is not a readable image, or too large.
        """
        settings = self.model.roi_head.prediction
        if solver not in SOLVERS:
            raise UsageError(f'solver {solver!r} must be one of {", ".join(SOLVERS)}', 'bad-argument')
        built = settings.solver if settings.solver.kind == solver else SOLVERS[solver]()
        name = Path(path).name
        try:
            _check_size(path)
            with self._one_at_a_time:
                image = follow_image(
                    self.model, path, cfg=self.cfg, classes=self.classes, refinements=self.refinements,
                    solver=built, points=False)
        except UsageError as error:
            # The visitor should not see the path of the upload folder.
            raise UsageError(error.message.replace(str(path), name), 'bad-image') from error
        return Solution(
            name=name, solver=solver,
            settings=[self.model.roi_head.setting_for(k) for k in range(self.refinements + 1)],
            floors=[max(_floor(found, settings.max_per_img), settings.score_thr)
                    for found in image.detections],
            image=replace(image, asked=[], detections=[_worth_keeping(found) for found in image.detections]))


def load_model(args: argparse.Namespace) -> DEQDetInferencer:
    """Build the detector of a config and load a checkpoint.

    Args:
        args (argparse.Namespace): Has config, checkpoint, cfg_options, trust_checkpoint and device (None: a
            GPU if there is one).

    Returns:
        DEQDetInferencer: The ``roi_head`` of its model has a ``fixed_point_problem``.

    Raises:
        UsageError: If one of them cannot be used, if they do not match, or if the decoder is not an
            equilibrium.
    """
    cfg = open_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    head = (cfg.model.get('roi_head') or {}).get('type')
    check_equilibrium(MODELS.get(head) if head else None, args.config)
    return DEQDetInferencer(cfg, args.checkpoint, args.device, trust_checkpoint=args.trust_checkpoint,
                            show_progress=False)


def _check_size(path: str) -> None:
    """Refuse an image that is too large, by its header, before it takes memory."""
    try:
        with open_picture(Path(path).read_bytes()) as header:
            width, height = header.size
    except UsageError:  # larger than OpenCV accepts
        width = height = MOST_PIXELS
    except (OSError, ValueError, SyntaxError):
        return  # decoding will report the error
    if width * height > MOST_PIXELS:
        raise UsageError(f'image {path} has more than {MOST_PIXELS / 1e6:g} million pixels: make it smaller',
                         'bad-image')


def _floor(found: InstanceData, most: int) -> float:
    """The best score after the best ``most`` detections."""
    return found.scores.sort(descending=True)[0][most].item() if len(found) > most else 0.0


def _worth_keeping(found: InstanceData) -> InstanceData:
    """Detections above the least score, and the first of each query, which is its best."""
    first = found.queries.diff(prepend=found.queries.new_tensor([-1])) != 0
    return found[first | (found.scores > LEAST_SCORE)]
