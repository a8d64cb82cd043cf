"""Objects that a random crop cuts."""

from typing import Optional

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RemoveCutObjects(BaseTransform):
    """Clip boxes at the edge of the image, and remove objects of which it shows too little.

    A crop leaves slivers of objects at its edge, and the model would learn them as objects. Put this step
    after mmdet's ``RandomCrop`` with ``bbox_clip_border=False``; it needs the whole boxes. It also removes
    the masks and the ids of these objects.

    Args:
        min_visible (float): Least share of an object's box that must be in the image, above 0 and up to 1.

    Raises:
        ValueError: If ``min_visible`` is no such share.
    """

    def __init__(self, min_visible: float = 0.4):
        if not 0 < min_visible <= 1:
            raise ValueError(f'RemoveCutObjects: min_visible={min_visible} must be above 0 and up to 1')
        self.min_visible = min_visible

    def transform(self, results: dict) -> Optional[dict]:
        """Change boxes, labels, flags and masks of an image; ``img_shape`` is its size."""
        boxes = results['gt_bboxes']
        whole = boxes.areas.clone()
        boxes.clip_(results['img_shape'])
        kept = (boxes.areas >= self.min_visible * whole).numpy()
        for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_instances_ids'):
            if results.get(key) is not None:
                results[key] = results[key][kept]
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'][kept.nonzero()[0]]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_visible={self.min_visible})'
