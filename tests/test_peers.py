"""Detectors of mmdet, the stacked decoder and Sparse R-CNN, on the digits and the trees, beside DEQDet."""

import math
import re
from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from small_model import ROOT, batch_of
from small_model import build as build_and_initialise
from test_configs import build, load

CONFIGS = ROOT / 'configs'
BASES = CONFIGS / '_base_'
# mmdet's config, and the settings that differ in ours besides `SIZES`.
PUBLISHED = {
    'faster_rcnn': ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', (
        r'rpn_head\.anchor_generator\.(scales|ratios|strides)', r'.*\.roi_layer\.sampling_ratio',
        r'(train_cfg\.rpn_proposal|test_cfg\.rpn)\.(nms_pre|max_per_img)', r'train_cfg\.rcnn\.sampler\.num')),
    'atss': ('atss/atss_r50_fpn_1x_coco.py', (
        r'bbox_head\.anchor_generator\.(octave_base_scale|strides)', )),
    'rtmdet': ('rtmdet/rtmdet_tiny_8xb32-300e_coco.py', (r'.*\.norm_cfg\.type', 'use_syncbn')),
    'deformable_detr': ('deformable_detr/deformable-detr-refine_r50_16xb2-50e_coco.py', (
        r'num_queries', r'(en|de)coder\.num_layers')),
    'dino': ('dino/dino-4scale_r50_8xb2-12e_coco.py', (
        r'num_queries', r'(en|de)coder\.num_layers', r'dn_cfg\.group_cfg\.num_dn_queries')),
}
# Classes, detections, widths and levels.
SIZES = (r'.*\.num_classes|.*\.?max_per_img|.*(\.|_)(channels|embed_dims|num_feats)'
         r'|neck\.num_outs|num_feature_levels|.*\.num_levels')
# mmdet's layers set it themselves.
DEFAULTS = r'.*\.batch_first'
DATA = ('digits', 'trees')
PEERS = [CONFIGS / 'peers' / f'{name}_{data}.py' for name in PUBLISHED for data in DATA]
ON_TREES = [CONFIGS / 'deqdet' / 'ffndet_trees_lite0.py',
            *sorted((CONFIGS / 'sparse_rcnn').glob('*_trees_lite0.py'))]
ON_DIGITS = sorted((CONFIGS / 'deqdet').glob('*_digits_region-queries.py'))


def every(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda path: path.stem)


def is_trees(path):
    return 'trees' in path.stem


def most(model):
    """The number of detections of an image."""
    return model.test_cfg.get('rcnn', model.test_cfg).max_per_img


def flat(value, key=''):
    """All settings below a dict, by their names with dots."""
    if not isinstance(value, dict):
        return {key: value}
    return {inner: setting for name, below in value.items()
            for inner, setting in flat(below, f'{key}.{name}' if key else name).items()}


@every(PEERS + ON_TREES + ON_DIGITS)
def test_all_detectors_on_a_data_set_get_the_same(path):
    """Backbone and its weights, images, augmentation, number of epochs, rate over time, and detections."""
    peer = load(path)
    ours = load(CONFIGS / 'deqdet' / f'deqdet_{"trees_lite0" if is_trees(path) else "digits"}.py')
    for key in ('train_dataloader', 'val_dataloader', 'val_evaluator', 'test_dataloader', 'test_evaluator',
                'train_cfg', 'param_scheduler', 'randomness'):
        assert peer[key] == ours[key], key
    model = load(BASES / 'models' / 'deqdet_lite0.py').model if is_trees(path) else ours.model
    assert peer.model.data_preprocessor == model.data_preprocessor
    backbone = dict(peer.model.backbone)
    backbone.pop('out_indices', None)
    assert backbone == {key: value for key, value in model.backbone.items() if key != 'out_indices'}
    assert peer.model.neck.out_channels == model.neck.out_channels
    assert most(peer.model) == most(ours.model)


@every(PEERS)
def test_all_but_sizes_and_what_the_configs_say_is_published(path, config_of_mmdet):
    name = path.stem.rpartition('_')[0]
    published, differences = PUBLISHED[name]
    ours, theirs = (flat(model.to_dict()) for model in (load(path).model, config_of_mmdet(published).model))
    differing = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)
                 and not re.fullmatch(rf'(backbone|data_preprocessor)\..*|{SIZES}|{DEFAULTS}', key)}
    named = {pattern: {key for key in differing if re.fullmatch(pattern, key)} for pattern in differences}
    assert set().union(*named.values()) == differing
    assert all(named.values())


@every([path for path in PEERS if not re.match('faster_rcnn|atss', path.stem)])
def test_a_recipe_with_adamw_is_the_published_one(path, config_of_mmdet):
    theirs = config_of_mmdet(PUBLISHED[path.stem.rpartition('_')[0]][0]).optim_wrapper
    ours = load(path).optim_wrapper
    for key in ('lr', 'weight_decay', 'type'):
        assert ours.optimizer[key] == theirs.optimizer[key], key
    assert ours.clip_grad == theirs.get('clip_grad')
    special, expected = (dict(wrapper.get('paramwise_cfg') or {}) for wrapper in (ours, theirs))
    rates, published_rates = special.pop('custom_keys', {}), expected.pop('custom_keys', {})
    assert special == expected
    # A pretrained backbone learns slower, here with every detector. A new one does not.
    published_rates.pop('backbone', None)
    assert rates == dict(published_rates, **{'backbone': dict(lr_mult=0.1)} if is_trees(path) else {})


@every([path for path in PEERS + ON_TREES if is_trees(path)])
def test_the_pretrained_backbone_learns_ten_times_slower(path):
    cfg, model = load(path), build(path)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rates = {id(parameter): group['lr'] for group in optimizer.param_groups for parameter in group['params']}
    learning = [rates[id(parameter)] for parameter in model.backbone.parameters() if parameter.requires_grad]
    assert learning == pytest.approx([cfg.optim_wrapper.optimizer.lr / 10] * len(learning)) and learning


def ready(path):
    """The detector of a config, with new weights, in training mode."""
    config = deepcopy(load(path).model)
    config.backbone.init_cfg = None
    settings = config.test_cfg.get('rcnn') or config.test_cfg
    if 'score_thr' in settings:
        settings.score_thr = 0  # a new classifier is sure of nothing
    return build_and_initialise(config).train()


def boxes_of(model, objects, **shape):
    """A batch whose objects have boxes only."""
    batch = batch_of(model, objects, **shape)
    for sample in batch['data_samples']:
        del sample.gt_instances.masks
    return batch


@every(PEERS + ON_TREES + ON_DIGITS)
def test_learns_and_predicts_without_compiled_operators(path):
    model = ready(path)
    batch = boxes_of(model, ((0, 0, 0), ()), side=160) if is_trees(path) else boxes_of(model, ((2, 7), (4, )))
    loss, parts = model.parse_losses(model.loss(batch['inputs'], batch['data_samples']))
    assert all(part.isfinite() for part in parts.values())
    loss.backward()
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not [name for name, parameter in learning.items() if parameter.grad is None]
    assert not [name for name, parameter in learning.items() if not parameter.grad.isfinite().all()]
    # RTMDet's first boxes may have no area.
    wrapper = build_optim_wrapper(model, load(path).optim_wrapper)
    wrapper.step()
    with torch.no_grad():
        samples = model.eval().predict(batch['inputs'], batch['data_samples'])
    for sample in samples:
        found = sample.pred_instances
        assert 0 < len(found) <= most(load(path).model)
        assert found.bboxes.isfinite().all() and ((found.scores >= 0) & (found.scores <= 1)).all()
        assert found.labels.max() < (1 if is_trees(path) else 10)


@every([path for path in PEERS + ON_TREES if is_trees(path)])
def test_a_batch_without_a_tree_teaches_too(path):
    """Some tiles have no tree, and now and then a whole batch has none."""
    model = ready(path)
    batch = boxes_of(model, ((), ()), side=160)
    loss, _ = model.parse_losses(model.loss(batch['inputs'], batch['data_samples']))
    loss.backward()
    assert 0 < loss.item() < math.inf
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


def test_the_deq_pair_on_the_trees_differs_in_its_head_alone():
    deq, stacked = (Config.fromfile(str(path)).to_dict() for path in ON_TREES[1:])
    assert deq['model']['roi_head'].pop('perturb_position_intensity') == 4
    deq['model']['roi_head'].pop('grad_accumulation')
    assert (deq['model']['roi_head'].pop('type'), stacked['model']['roi_head'].pop('type')) == (
        'DEQ_SparseRoIHead', 'SparseRoIHead')
    assert deq == stacked
