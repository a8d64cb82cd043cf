"""Resizing of very long, thin images."""

import mmcv
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class NonEmptyResize(Resize):
    """mmdet's ``Resize``, but the shorter side of a very long image keeps at least one pixel."""

    def _resize_img(self, results: dict) -> None:
        height, width = results['img'].shape[:2]
        if not self.keep_ratio:
            super()._resize_img(results)
            return
        results['scale'] = tuple(max(1, side) for side in results['scale'])
        size = mmcv.rescale_size((width, height), results['scale'])
        if min(size) > 0:
            super()._resize_img(results)
            return
        results['img'], *factors = mmcv.imresize(
            results['img'], tuple(max(1, side) for side in size), return_scale=True,
            interpolation=self.interpolation, backend=self.backend)
        results.update(img_shape=results['img'].shape[:2], scale_factor=tuple(factors), keep_ratio=True)
