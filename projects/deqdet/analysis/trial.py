"""Tools for measurements of a detector: random images, other forms of the detector."""

from copy import deepcopy
from typing import Any, Dict, Optional, Tuple

from mmdet.testing import demo_mm_inputs
from torch import nn

from ..model.heads.compiled import Compiler
from .reference import use_reference_form


def random_batch(model: nn.Module, shape: Tuple[int, int], *, images: int = 2,
                 objects: int = 4) -> Dict[str, Any]:
    """Random images with objects, before the preprocessor.

    Args:
        model (nn.Module): The detector; only its number of classes is used.
        shape (tuple[int, int]): Height and width in pixels.
        images (int): Number of images.
        objects (int): Number of objects in each image.
    """
    head: Any = model.roi_head
    batch = demo_mm_inputs(images, (3, *shape), [objects] * images,
                           num_classes=head.bbox_head[-1].num_classes + 1)
    for sample in batch['data_samples']:
        sample.gt_instances.labels -= 1  # mmdet draws them from 1 on
    return batch


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
