"""What a measurement needs beside a detector: random images, copies of the detector, one loss."""

from copy import deepcopy
from typing import Any, Dict, Tuple

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn


def random_batch(model: nn.Module, shape: Tuple[int, int], *, images: int = 2,
                 objects: int = 4) -> Dict[str, Any]:
    """Images, and objects of up to a quarter of the image in them, before the preprocessor.

    Args:
        model (nn.Module): Its number of classes counts.
        shape (tuple[int, int]): Height and width in pixels.
        images (int): How many.
        objects (int): In each image.
    """
    generator = torch.Generator().manual_seed(0)
    head: Any = model.roi_head
    samples = []
    for number in range(images):
        sample = DetDataSample(metainfo=dict(
            img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), batch_input_shape=shape,
            img_path=f'random_{number}.png'))
        corner = torch.rand(objects, 2, generator=generator) * min(shape) * 0.7
        size = (0.05 + 0.2 * torch.rand(objects, 2, generator=generator)) * min(shape)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + size], 1),
            labels=torch.randint(head.bbox_head[-1].num_classes, (objects, ), generator=generator))
        samples.append(sample)
    pixels = torch.randint(256, (images, 3, *shape), generator=generator, dtype=torch.uint8)
    return dict(inputs=list(pixels), data_samples=samples)


def shared_copy(model: nn.Module) -> Any:
    """A copy of a detector to change, with the parameters of this one."""
    return deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def total(losses: Dict[str, Tensor]) -> Tensor:
    """The sum that is differentiated."""
    return torch.stack([value.sum() for key, value in losses.items() if 'loss' in key]).sum()
