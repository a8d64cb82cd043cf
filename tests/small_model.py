"""A small detector from the real config, and batches for it."""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData

ROOT = Path(__file__).resolve().parent.parent
DEMO_CONFIG = ROOT / 'configs' / 'deqdet' / 'deqdet_digits.py'


@lru_cache
def _model_of(path):
    """Model config of a file, read once."""
    return Config.fromfile(str(path)).model


def small_config(**roi_head):
    """Model config of the demo, shrunk further; keyword arguments go to ``roi_head``."""
    model = deepcopy(_model_of(DEMO_CONFIG))
    model.backbone.update(base_channels=4, stem_channels=4)
    model.neck.in_channels = [4, 8, 16, 32]
    model.rpn_head.num_proposals = 12
    model.test_cfg.rcnn.max_per_img = 12
    # As in the published configs.
    model.roi_head.update(
        refinement_steps=4, supervision_position=[1, 3], grad_accumulation=True, positions_per_batch=1)
    model.roi_head.update(roi_head)
    return ConfigDict(model)


def small_sparse_config(name='deq_sparse_rcnn', **roi_head):
    """Model config of a Sparse R-CNN on the digits, shrunk further."""
    model = deepcopy(_model_of(ROOT / 'configs' / 'sparse_rcnn' / f'{name}_digits.py'))
    model.backbone.update(base_channels=4, stem_channels=4)
    model.neck.in_channels = [4, 8, 16, 32]
    # As in the COCO configs.
    model.roi_head.update(grad_accumulation=True)
    model.roi_head.update(roi_head)
    return ConfigDict(model)


def build(config=None, **roi_head):
    """The detector with initial weights."""
    from mmdet.registry import MODELS
    torch.manual_seed(0)
    model = MODELS.build(config or small_config(**roi_head))
    model.init_weights()
    return model


def small_mask_head(kind='local', classes=10):
    """Config of a mask head for :func:`small_config`: ``'local'``, ``'global'`` or ``'levels'``."""
    if kind == 'global':
        return dict(type='DeCoupleHead', embed_dim=64)
    if kind == 'levels':
        return dict(type='DeCoupleMLVLEHead', embed_dim=64, mlvl=4, position=True)
    return dict(
        type='WarpedEfficientDynamicMaskHead', num_convs=1, in_channels=64, conv_out_channels=16,
        num_classes=classes, norm_cfg=dict(type='GN', num_groups=4),
        mask_roi_extractor=dict(
            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2),
            out_channels=64, featmap_strides=[4, 8, 16, 32]),
        dynamic_conv_cfg=dict(
            type='DynamicConv', in_channels=64, feat_channels=8, out_channels=64, input_feat_shape=14,
            with_proj=False, act_cfg=dict(type='ReLU', inplace=True), norm_cfg=dict(type='LN')))


def few_queries(model):
    """Model config of a COCO model with its real widths, but few queries and steps, not pretrained."""
    model = deepcopy(model)
    model.backbone.init_cfg = None
    model.rpn_head.num_proposals = 12
    model.test_cfg.rcnn.max_per_img = 12
    model.roi_head.update(refinement_steps=2, supervision_position=[2])
    return model


def ellipses(boxes, height, width):
    """Masks of the ellipses inside boxes."""
    from mmdet.structures.mask import BitmapMasks
    y, x = np.mgrid[:height, :width] + 0.5
    masks = [((x - (x1 + x2) / 2) / (x2 - x1) * 2) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1) * 2) ** 2 < 1
             for x1, y1, x2, y2 in boxes.tolist()]
    return BitmapMasks(np.array(masks, dtype=np.uint8).reshape(-1, height, width), height, width)


def batch_of(model, objects=((2, 7), (4, )), side=96):
    """Random images with ellipses; ``objects`` are the labels of each image, one object per label.

    Images are ``side`` pixels wide, every second one is a third less high.
    """
    from mmdet.structures import DetDataSample
    generator = np.random.default_rng(0)
    images, samples = [], []
    for i, labels in enumerate(objects):
        height, width = side - side // 3 * (i % 2), side
        images.append(torch.from_numpy(
            generator.integers(0, 255, (3, height, width), dtype=np.uint8)))
        sample = DetDataSample(metainfo=dict(
            img_shape=(height, width), ori_shape=(2 * height, 2 * width), scale_factor=(0.5, 0.5),
            img_path=f'image_{i}.png'))
        corner = torch.from_numpy(generator.uniform(0, 30, (len(labels), 2))).float()
        size = torch.from_numpy(generator.uniform(10, 30, (len(labels), 2))).float()
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + size], 1),
            labels=torch.tensor(labels, dtype=torch.long))
        sample.gt_instances.masks = ellipses(sample.gt_instances.bboxes, height, width)
        images[-1] = images[-1].contiguous()
        samples.append(sample)
    return model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)


def losses_of(model, seed=0, **kwargs):
    """Losses of a random batch."""
    batch = batch_of(model, **kwargs)
    torch.manual_seed(seed)
    return model.loss(batch['inputs'], batch['data_samples'])


def total(losses):
    """The sum of all losses, which training differentiates."""
    return sum(value for key, value in losses.items() if 'loss' in key)


def contracting(test_cfg=None, **roi_head):
    """A detector whose path contracts: deltas are zero, as in a new layer, and contents converge."""
    config = small_config(**roi_head)
    config.test_cfg.rcnn.update(test_cfg or {})
    model = build(config).eval()
    refinement = model.roi_head.bbox_head[-1]
    with torch.no_grad():
        for norm in (refinement.attention_norm, refinement.sampling_n_mixing.norm, refinement.ffn_norm):
            norm.weight.mul_(0.3)
            norm.bias.normal_(std=0.5)
    return model


def path_of(model, images=slice(None)):
    """The solved path of a batch, or of some of its images."""
    batch = batch_of(model, ((1, ), (2, ), (3, )))
    samples = batch['data_samples'][images]
    with torch.no_grad():
        features = [level[images] for level in model.extract_feat(batch['inputs'])]
        head = model.roi_head
        proposals = model.rpn_head.predict(features, samples)
        pyramid = head.pyramid(features)
        return head.prediction_path(pyramid, head.initialise(pyramid, head.initial_state(proposals)))
