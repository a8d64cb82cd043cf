"""From the scores of queries to detections."""

from mmengine.structures import InstanceData
from torch import Tensor


def select_detections(logits: Tensor, box: Tensor, meta: dict, *, max_per_img: int,
                      rescale: bool) -> InstanceData:
    """Best scores over queries and classes, without NMS.

    Args:
        logits (Tensor): Class scores of one image before the sigmoid, has shape (N, K).
        box (Tensor): Boxes (x1, y1, x2, y2) of one image in pixels, has shape (N, 4).
        meta (dict): Its ``scale_factor`` (sw, sh); without one the image was not resized.
        max_per_img (int): Detections at most; there are no more than N x K.
        rescale (bool): Divide the boxes by the scale factor.

    Returns:
        :obj:`InstanceData`: ``scores``, has shape (D,), sorted; ``labels``, has shape (D,); ``bboxes``,
        has shape (D, 4), not clipped.
    """
    scores = logits.sigmoid().flatten()
    scores, index = scores.topk(min(max_per_img, len(scores)))
    box = box[index // logits.shape[-1]]
    if rescale and 'scale_factor' in meta:  # a pipeline that does not resize sets none
        box = box / box.new_tensor(meta['scale_factor'][:2]).repeat(2)
    return InstanceData(scores=scores, labels=index % logits.shape[-1], bboxes=box)
