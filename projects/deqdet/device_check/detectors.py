"""Detectors and batches for the checks: shipped configs with random weights, and random images."""

from copy import deepcopy
from typing import Any, Dict, Tuple

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..shipped import find_config

#: Of the demo: widths of 64, images of 96 pixels.
SMALL = 'deqdet_digits'


def small_config() -> Config:
    """Config of the demo, with few steps."""
    config = Config.fromfile(str(find_config(SMALL)))
    config.model.roi_head.update(refinement_steps=4, supervision_position=[1, 4])
    config.model.test_cfg.rcnn.pop('refinement_steps', None)
    return config


def large_config(name: str, *, queries: int, steps: int) -> Config:
    """Config of an R50 model, not pretrained."""
    config = Config.fromfile(str(find_config(name)))
    config.model.backbone.init_cfg = None
    config.model.rpn_head.num_proposals = queries
    supervised = [t for t in config.model.roi_head.supervision_position if t <= steps]
    config.model.roi_head.update(refinement_steps=steps, supervision_position=supervised)
    config.model.test_cfg.rcnn.pop('refinement_steps', None)
    return config


def build(config: Config, device: torch.device) -> nn.Module:
    """The detector with initial weights of seed 0."""
    from mmdet.registry import MODELS
    torch.manual_seed(0)
    model = MODELS.build(deepcopy(config.model))
    model.init_weights()
    return model.to(device)


def contracting(model: nn.Module) -> nn.Module:
    """Initial weights expand differences from step to step; this makes the path of a detector contract.

    So two ways to compute it can be compared at its end.
    """
    refinement: Any = model.roi_head.bbox_head[-1]  # type: ignore[index,union-attr]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in (refinement.attention_norm, refinement.sampling_n_mixing.norm, refinement.ffn_norm):
            norm.weight.mul_(0.3)
            norm.bias.copy_(0.5 * torch.randn(norm.bias.shape, generator=generator))
    return model.eval()


def random_batch(model: nn.Module, shape: Tuple[int, int], *, images: int = 2,
                 objects: int = 4) -> Dict[str, Any]:
    """Images, and objects of up to a quarter of the image in them, before the preprocessor.

    Args:
        model (nn.Module): Its number of classes counts.
        shape (tuple[int, int]): Height and width in pixels.
        images (int): How many.
        objects (int): In each image.
    """
    from mmdet.structures import DetDataSample
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


def problem(model: nn.Module, shape: Tuple[int, int], **kwargs: Any) -> Tuple[Any, Any]:
    """Feature pyramid and first state of the decoder for random images, without gradient."""
    detector: Any = model
    batch = detector.data_preprocessor(random_batch(model, shape, **kwargs), False)
    with torch.no_grad():
        features = detector.extract_feat(batch['inputs'])
        proposals = detector.rpn_head.predict(features, batch['data_samples'])
        return detector.roi_head.pyramid(features), detector.roi_head.initial_state(proposals)


def total(losses: Dict[str, Tensor]) -> Tensor:
    """The sum that is differentiated."""
    return torch.stack([value.sum() for key, value in losses.items() if 'loss' in key]).sum()
