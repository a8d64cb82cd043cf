"""Tools for measurements of a detector: random images, other forms of the detector, one loss."""

from copy import deepcopy
from typing import Any, Dict, Optional, Tuple

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..model.heads.compiled import Compiler
from .reference import use_reference_form


def random_batch(model: nn.Module, shape: Tuple[int, int], *, images: int = 2,
                 objects: int = 4) -> Dict[str, Any]:
    """Random images with objects whose sides are at most a quarter of the image, before the preprocessor.

    Args:
        model (nn.Module): The detector; only its number of classes is used.
        shape (tuple[int, int]): Height and width in pixels.
        images (int): Number of images.
        objects (int): Number of objects in each image.
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


def form_of(model: nn.Module, *, reference: bool = False, compiled: bool = False,
            prediction: Optional[Dict[str, Any]] = None, **attributes: Any) -> Any:
    """A copy of a detector in another form; it shares the parameters.

    Args:
        model (nn.Module): The detector.
        reference (bool): Use the form of the released models; then the other arguments are ignored.
        compiled (bool): Compile the refinement.
        prediction (dict, optional): Changed settings of predictions, with the keys of ``test_cfg.rcnn``.
        **attributes: Attributes to set on the head.
    """
    form: Any = deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    if reference:
        return use_reference_form(form)
    for name, value in attributes.items():
        setattr(form.roi_head, name, value)
    form.roi_head.prediction = form.roi_head.prediction_with(**(prediction or {}))
    if compiled:
        form.roi_head.compiler = Compiler()
    return form


def total(losses: Dict[str, Tensor]) -> Tensor:
    """The sum of all losses."""
    return torch.stack([value.sum() for key, value in losses.items() if 'loss' in key]).sum()
