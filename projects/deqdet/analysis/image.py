"""The predictions of a detector for one image, refinement by refinement."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg
from mmengine import fileio
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from ..errors import UsageError
from ..model.heads import PredictionSettings
from ..model.heads.solving import DISTANCES
from .loading import fixed_point_problem
from .masks import FollowedMasks
from .trajectory import follow


@dataclass(frozen=True)
class FollowedImage:
    """The predictions for one image, in pixels of the image: pixel i covers i to i + 1.

    Attributes:
        picture (np.ndarray): The original image, RGB, uint8, has shape (H, W, 3).
        classes (Sequence[str]): Class names.
        detections (list[:obj:`InstanceData`]): After k refinements, k = 0 (the initialisation layer alone) to
            T: ``scores`` and ``labels`` of every class of every query, ``bboxes`` (x1, y1, x2, y2), and
            ``queries``, the index of the query.
        residuals (dict[str, np.ndarray]): How far each refinement moved the state, has shape (T,), mean over
            all queries: ``content``, relative, and ``position``, in pixels of the *network's input*. The
            units are those of ``test_cfg.tolerance``.
        resized (bool): The network's input has another size than the original image.
        asked (list[np.ndarray]): Input boxes of each refinement, T arrays of shape (N, 4).
        points (list[np.ndarray], optional): Sampling points (x, y, z) of each refinement, T arrays of shape
            (N, G, P, 3); z is log2 of pixels of the network's input, like the log2 strides of the levels.
            None if the decoder samples no points, or if they were not requested.
        strides (Sequence[int]): Strides of the feature levels, pixels of the network's input per cell.
        seconds (np.ndarray): Time of the solver from y_0 to each state, has shape (T + 1,).
        masks (FollowedMasks, optional): Computes masks of ``detections``. None if the decoder has none, or if
            they were not requested.
    """

    picture: np.ndarray
    classes: Sequence[str]
    detections: List[InstanceData]
    residuals: Dict[str, np.ndarray]
    resized: bool
    asked: List[np.ndarray]
    points: Optional[List[np.ndarray]]
    strides: Sequence[int]
    seconds: np.ndarray
    masks: Optional[FollowedMasks] = None

    @property
    def refinements(self) -> int:
        """T."""
        return len(self.detections) - 1

    def best_queries(self, count: Optional[int] = None, *, score: float = 0.0,
                     refinements: int = -1) -> List[int]:
        """Queries by their highest score, the best first.

        Args:
            count (int, optional): Maximum number of queries.
            score (float): Minimum score; the best query is always included.
            refinements (int): Number of refinements before; by default all.
        """
        found = self.detections[refinements]
        order = found.scores.argsort(descending=True, stable=True)
        order = order[:max(1, int((found.scores > score).sum()))]
        return list(dict.fromkeys(found.queries[order].tolist()))[:count]


@torch.no_grad()
def follow_image(model: BaseModel, path: Union[str, Path], *, cfg: Config, classes: Sequence[str],
                 refinements: int, solver: Optional[Callable] = None,
                 points: bool = True, masks: bool = True) -> FollowedImage:
    """Solve the equilibrium of an image once and keep all states of the path.

    Args:
        model (BaseModel): A detector in eval mode whose ``roi_head`` has a ``fixed_point_problem``.
        path (str or Path): The image.
        cfg (Config): The whole config, for its test pipeline.
        classes (Sequence[str]): Class names.
        refinements (int): T, at least 1. The tolerance of the config is ignored.
        solver (Callable, optional): See ``build_solver``. By default that of the config.
        points (bool): Return the sampling points; they take much memory.
        masks (bool): Return what masks need, if the decoder has them; this keeps the features in memory.

    Raises:
        UsageError: If the image cannot be read.
    """
    picture, data = read_image(cfg, path)
    problem = fixed_point_problem(model, data)
    samples = problem.samples
    head = model.roi_head
    asked = []

    def watched(state):
        asked.append(state)
        return problem.step(state)

    settings = head.prediction
    trajectory = follow(problem.start, watched, range(refinements + 1), solver=solver or settings.solver,
                        measure=DISTANCES)
    layer = head.bbox_head[-1]
    meta = samples[0].metainfo
    states = [trajectory.states[k] for k in range(refinements + 1)]
    scale = np.array(meta.get('scale_factor', (1.0, 1.0))[:2], dtype=np.float64)
    sampled = None
    if points and hasattr(layer, 'sampling_points'):
        sampled = [layer.sampling_points(state)[0].double().cpu().numpy() for state in asked]
        for each in sampled:
            each[..., :2] /= scale
    return FollowedImage(
        picture=picture,
        classes=classes,
        detections=[_by_query(head, state, meta, settings) for state in states],
        residuals={part: lengths[:, 0].cpu().numpy()
                   for part, lengths in trajectory.path.residuals.items()},
        resized=bool((scale != 1).any()),
        asked=[state.box[0].double().cpu().numpy() / np.tile(scale, 2) for state in asked],
        points=sampled,
        strides=getattr(head, 'featmap_strides', ()),
        seconds=np.array([trajectory.seconds[k] for k in range(refinements + 1)]),
        masks=FollowedMasks.of(head, problem.features, states, meta, picture.shape) if masks else None)


def read_image(cfg: Config, path: Union[str, Path]) -> Tuple[np.ndarray, dict]:
    """Read an image: the picture (RGB, uint8, has shape (H, W, 3)), and a batch by the test pipeline.

    Args:
        cfg (Config): The whole config.
        path (str or Path): A path or URL that mmengine's file backends read.

    Raises:
        UsageError: If the file is missing or is not an image.
    """
    path = str(path)
    pipeline = [step for step in get_test_pipeline_cfg(cfg)
                if not str(step['type']).endswith('Annotations')]
    backend_args = next((step['backend_args'] for step in pipeline if 'backend_args' in step), None)
    try:
        picture = mmcv.imfrombytes(fileio.get(path, backend_args=backend_args), channel_order='rgb')
    except OSError as error:
        raise UsageError(f'image {path} cannot be read ({error.strerror or error}): use the path of an image '
                         'file', 'bad-image') from error
    except cv2.error:
        picture = None  # an empty file
    if picture is None:
        raise UsageError(f'image {path} cannot be decoded: it is empty, not an image, or of a kind that '
                         'OpenCV does not know: convert it to PNG or JPEG', 'bad-image')
    return picture, pseudo_collate([Compose(pipeline)(dict(img_path=path, img_id=0))])


def left_out(settings: PredictionSettings) -> List[str]:
    """The parts of a prediction with these settings that :func:`follow_image` skips, one line each."""
    lines = []
    if settings.nms is not None:
        lines.append('test_cfg.rcnn.nms is ignored here: all queries are shown, even those that it would '
                     'suppress')
    if settings.mask_scores:
        lines.append('test_cfg.rcnn.mask_scores is ignored here: masks have the scores of their boxes')
    return lines


def _by_query(head, state, meta, settings) -> InstanceData:
    """All detections of every query, with the index of the query."""
    found = []
    settings = replace(settings, max_per_img=state.logits.shape[-1], score_thr=0.0, nms=None)
    for query, (logits, box) in enumerate(zip(state.logits[0], state.box[0])):
        each = head.select(logits[None], box[None], meta, True, settings=settings)
        each.queries = torch.full_like(each.labels, query)
        found.append(each)
    return InstanceData.cat(found).cpu()
