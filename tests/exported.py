"""Small detectors whose boxes move and whose scores differ, and their recorded parts, once per session."""

from functools import lru_cache

import numpy as np
import torch
from deqdet.export import record_parts, record_refinement
from mmengine.registry import DefaultScope
from small_model import ROOT, build, small_config, small_mask_head

# The demo's detector, made small. Images are resized, as for COCO.
CONFIG = f'''
_base_ = {str(ROOT / 'configs' / 'deqdet' / 'deqdet_digits.py')!r}
model = dict(
    backbone=dict(base_channels=4, stem_channels=4),
    neck=dict(in_channels=[4, 8, 16, 32]),
    rpn_head=dict(num_proposals=12),
    test_cfg=dict(rcnn=dict(max_per_img=12)))
test_pipeline = _base_.test_pipeline
test_pipeline[1] = dict(type='Resize', scale=(150, 100), keep_ratio=True)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
'''


def lively(model, seed=0):
    """The model in eval mode with random weights; a new layer would move no box."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for layer in model.roi_head.bbox_head:
            layer.fc_reg.weight.normal_(std=0.03)
            layer.fc_cls.weight.normal_(std=0.3)
    return model.eval()


def settling(model):
    """The model in eval mode with weights that move boxes and, as after training, let the path contract."""
    model, layer = lively(model), model.roi_head.bbox_head[-1]
    with torch.no_grad():
        layer.fc_reg.weight.mul_(0.03)
        for norm in (layer.attention_norm, layer.sampling_n_mixing.norm, layer.ffn_norm):
            norm.weight.mul_(0.3)
            norm.bias.normal_(std=0.5)
    return model


@lru_cache
def detector():
    """A deep equilibrium detector."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return lively(build())


@lru_cache
def parts():
    """The parts of :func:`detector`; recording takes most of the time of these tests."""
    return record_parts(detector())


@lru_cache
def masked(kind, stacked=False):
    """A detector with masks, and its parts."""
    config = small_config(mask_head=small_mask_head(kind))
    if stacked:
        config.roi_head = dict(type='FFNDetRoIHead', num_stages=1, mask_head=config.roi_head.mask_head,
                               bbox_head=config.roi_head.bbox_head[:1])
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = lively(build(config))
    spread(model)
    return model, record_parts(model)


def spread(model):
    """Give the mask heads weights whose maps differ; those of a new head are nearly constant."""
    with torch.no_grad():
        for name, weight in model.roi_head.mask_head.named_parameters():
            if 'conv_logits' in name:
                weight.normal_(std=0.3)
            elif 'mask_embed' in name:
                weight.normal_(std=0.05)


@lru_cache
def program():
    """The refinement layer of :func:`detector` as a program of torch.export."""
    return record_refinement(detector())


@lru_cache
def stacked():
    """A stacked decoder on two levels."""
    config = small_config()
    config.backbone.update(out_indices=(2, 3))
    config.neck.update(in_channels=[16, 32], num_outs=2)
    layer = config.roi_head.bbox_head[0]
    config.roi_head = dict(type='FFNDetRoIHead', num_stages=1, featmap_strides=[16, 32], bbox_head=[layer])
    with DefaultScope.overwrite_default_scope('mmdet'):
        return lively(build(config))


@lru_cache
def expanding():
    """A detector whose path amplifies differences (as random weights do), and its parts.

    Its sampling points depend on the contents. Only these weights are replaced; nothing is recorded again.
    """
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = lively(build())
    weight = model.roi_head.bbox_head[-1].sampling_n_mixing.sampling_offset_generator[0].weight
    fresh = weight.detach().clone()
    with torch.no_grad():
        weight.normal_(std=0.1)
    refinement = _copy(parts().refinement)
    # The exporter renames the weight of a product and transposes it.
    tensor, = (each for each in refinement.graph.initializer
               if np.array_equal(numpy_helper().to_array(each), fresh.t()))
    _set(tensor, weight.detach().t().numpy())
    return model, parts()._replace(refinement=refinement)


def planted(recorded, part, weight):
    """The parts with an error: adds 2% of a weight's largest value to its first element."""
    model = _copy(getattr(recorded, part))
    tensor, = (each for each in model.graph.initializer if each.name == weight)
    values = numpy_helper().to_array(tensor).copy()
    values.flat[0] += 0.02 * max(np.abs(values).max(), 1)
    _set(tensor, values)
    return recorded._replace(**{part: model})


def numpy_helper():
    from onnx import numpy_helper
    return numpy_helper


def _copy(model):
    new = type(model)()
    new.CopyFrom(model)
    return new


def _set(tensor, values):
    tensor.CopyFrom(numpy_helper().from_array(np.ascontiguousarray(values), tensor.name))
