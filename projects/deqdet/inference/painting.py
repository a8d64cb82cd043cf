"""Boxes on a picture, by mmdet's visualiser."""

from typing import Any, Sequence

import mmcv
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer

from ..images.drawing import DRAWING


def paint(visualizer: Visualizer, picture: np.ndarray, sample: DetDataSample, *, score: float = 0.3,
          show: bool = False, wait_time: float = 0, draw_pred: bool = True) -> np.ndarray:
    """A picture with boxes.

    Args:
        visualizer (Visualizer): Draws.
        picture (np.ndarray): BGR, uint8, has shape (H, W, 3).
        sample (:obj:`DetDataSample`): What was found in it.
        score (float): Only what scores more is drawn.
        show (bool): Open a window.
        wait_time (float): Seconds that it stays; 0 waits for a key.
        draw_pred (bool): Draw boxes at all.

    Returns:
        np.ndarray: BGR, uint8, has shape (H, W, 3).
    """
    drawn: Any = drawable(sample, picture.shape)
    with DRAWING:  # the visualiser keeps the picture that it draws on
        visualizer.add_datasample(
            'image', mmcv.bgr2rgb(picture), drawn, draw_gt=False, draw_pred=draw_pred, show=show,
            wait_time=wait_time, pred_score_thr=score)
        return mmcv.rgb2bgr(visualizer.get_image())


def drawable(sample: DetDataSample, shape: Sequence[int]) -> DetDataSample:
    """Boxes within the picture; those of random weights may be no boxes at all, which cannot be drawn."""
    found = sample.pred_instances.cpu()
    low, high = found.bboxes[:, :2], found.bboxes[:, 2:]
    found = found[(found.bboxes.isfinite().all(1) & (high >= low).all(1))]
    size = found.bboxes.new_tensor([shape[1], shape[0]] * 2)
    drawn = InstanceData(labels=found.labels, scores=found.scores,
                         bboxes=found.bboxes.clamp(min=0).minimum(size))
    return DetDataSample(metainfo=sample.metainfo, pred_instances=drawn)
