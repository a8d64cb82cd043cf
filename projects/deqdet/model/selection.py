"""Selection of detections by the scores of queries."""

from dataclasses import dataclass
from typing import Any, Optional, Tuple

from mmcv.ops import batched_nms
from mmengine.structures import InstanceData
from torch import Tensor


@dataclass(frozen=True)
class Suppression:
    """Non-maximum suppression by mmcv's ``batched_nms``; classes do not suppress each other.

    Attributes:
        kind (str): ``'nms'``, or ``'soft_nms'``, which lowers scores instead.
        options (tuple[tuple[str, object], ...]): The other arguments of ``batched_nms``, such as
            ``('iou_threshold', 0.5)``.
    """

    kind: str = 'nms'
    options: Tuple[Tuple[str, Any], ...] = (('iou_threshold', 0.5), )

    def __call__(self, box: Tensor, scores: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
        """Suppress overlapping boxes.

        Args:
            box (Tensor): Boxes (x1, y1, x2, y2), has shape (D, 4).
            scores (Tensor): Their scores, has shape (D,).
            labels (Tensor): Their classes, has shape (D,).

        Returns:
            tuple[Tensor, Tensor]: Scores of the kept boxes, the best first, and their indices.
        """
        if not len(box):
            return scores, labels
        # mmcv shifts the boxes of each class by more than the largest coordinate. Negative coordinates (boxes
        # left of or above the image) could still overlap with the class before.
        kept, index = batched_nms(box - box.min(), scores, labels, dict(type=self.kind, **dict(self.options)))
        return kept[:, -1], index


@dataclass(frozen=True)
class Selection:
    """The D best pairs of query and class of an image, best first.

    Attributes:
        query (Tensor): Index of the query, has shape (D,).
        label (Tensor): Class, has shape (D,).
        score (Tensor): Has shape (D,).
    """

    query: Tensor
    label: Tensor
    score: Tensor

    def detections(self, box: Tensor, meta: dict, *, rescale: bool) -> InstanceData:
        """The selection as mmdet's result of one image.

        Args:
            box (Tensor): Boxes (x1, y1, x2, y2) of all queries in pixels, has shape (N, 4).
            meta (dict): ``scale_factor`` (sw, sh) is used; without it the image was not resized.
            rescale (bool): Divide the boxes by the scale factor.

        Returns:
            :obj:`InstanceData`: ``scores``, has shape (D,), sorted; ``labels``, has shape (D,); ``bboxes``,
            has shape (D, 4), not clipped.
        """
        box = box[self.query]
        if rescale and 'scale_factor' in meta:  # missing if the pipeline does not resize
            box = box / box.new_tensor(meta['scale_factor'][:2]).repeat(2)
        return InstanceData(scores=self.score, labels=self.label, bboxes=box)


def select_queries(logits: Tensor, box: Tensor, *, max_per_img: int, score_thr: float = 0.0,
                   nms: Optional[Suppression] = None) -> Selection:
    """Select the best scores over queries and classes.

    Args:
        logits (Tensor): Class scores of one image before the sigmoid, has shape (N, K).
        box (Tensor): Boxes (x1, y1, x2, y2) of one image in pixels, has shape (N, 4).
        max_per_img (int): Maximum number of detections; there are at most N x K.
        score_thr (float): Keep only scores above it; 0 keeps all.
        nms (Suppression, optional): Applied to all scores above ``score_thr``, before ``max_per_img``.
    """
    classes, scores = logits.shape[-1], logits.sigmoid().flatten()
    most = len(scores) if nms else min(max_per_img, len(scores))
    scores, index = scores.topk(most)
    if score_thr > 0:
        above = scores > score_thr
        scores, index = scores[above], index[above]
    if nms:
        scores, kept = nms(box[index // classes], scores, index % classes)
        scores, index = scores[:max_per_img], index[kept[:max_per_img]]
    return Selection(query=index // classes, label=index % classes, score=scores)


def select_detections(logits: Tensor, box: Tensor, meta: dict, *, rescale: bool,
                      **settings: Any) -> InstanceData:
    """:func:`select_queries` with these settings, then :meth:`Selection.detections`."""
    return select_queries(logits, box, **settings).detections(box, meta, rescale=rescale)
