"""Queries that start at region proposals, with the model of the tree crowns."""

from copy import deepcopy

import pytest
import torch
from deqdet.export.parts import split_detector
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from refusals import refused
from small_model import ROOT, batch_of, build, total

CONFIG = ROOT / 'configs' / 'deqdet' / 'deqdet_trees_lite0.py'
TREES = ((0, 0), (0, ))  # labels of two images


def trees_config(**roi_head):
    model = deepcopy(Config.fromfile(str(CONFIG)).model)
    model.backbone.init_cfg = None
    model.roi_head.update(refinement_steps=2, supervision_position=[1], **roi_head)
    return model


@pytest.fixture
def model():
    return build(trees_config())


def loss_of(model, objects=TREES):
    batch = batch_of(model, objects=objects)
    return model.train().loss(batch['inputs'], batch['data_samples'])


def test_queries_are_the_best_proposals_of_mmdets_network(model):
    model.eval()
    batch = batch_of(model, objects=TREES)
    features = model.extract_feat(batch['inputs'])
    head = model.rpn_head
    settings = {**{key: value for key, value in trees_config().rpn_head.items() if key not in (
        'type', 'num_proposals', 'proposal_feature_channel')}, 'test_cfg': head.test_cfg}
    network = RPNHead(**settings).eval()
    network.load_state_dict(head.state_dict(), strict=False)
    with torch.no_grad():
        expected = network.predict(features[1:], batch['data_samples'])
        queries = head.predict(features, batch['data_samples'])
    for proposals, found in zip(expected, queries):
        count = min(80, len(proposals))
        assert count > 10
        assert torch.equal(found.bboxes[:count], proposals.bboxes[:count])
        assert found.bboxes.shape == (80, 4) and found.features.shape == (80, 64)
        assert torch.allclose(found.features.std(-1, correction=0), torch.ones(80), atol=1e-3)


def test_a_grid_fills_the_queries_of_an_image_with_few_proposals():
    config = trees_config()
    config.test_cfg.rpn.max_per_img = 16
    model = build(config).eval()
    batch = batch_of(model, objects=TREES)
    results = model.rpn_head.predict(model.extract_feat(batch['inputs']), batch['data_samples'])
    for sample, found in zip(batch['data_samples'], results):
        height, width = sample.img_shape
        grid = found.bboxes[16:]  # 64 boxes, 8 x 8, each a quarter as large as the image
        size = torch.tensor([width, height, width, height])
        assert torch.allclose(grid[0], size * torch.tensor([-1, -1, 3, 3]) / 16)
        assert torch.allclose(grid[-1], size * torch.tensor([13, 13, 17, 17]) / 16)


def test_proposals_learn_from_their_own_losses_only(model):
    """Decoder losses do not reach the network of the proposals, but its losses do, and the contents learn."""
    losses = loss_of(model)
    own = [key for key in losses if 'rpn' in key]
    assert set(own) == {'loss_rpn_cls', 'loss_rpn_bbox'}
    decoder = sum(value for key, value in losses.items() if 'loss' in key and key not in own)
    weights = dict(model.rpn_head.named_parameters())
    contents = weights.pop('init_proposal_features.weight')
    grads = torch.autograd.grad(decoder, [contents, *weights.values()], retain_graph=True, allow_unused=True)
    assert grads[0].abs().sum() > 0 and all(grad is None for grad in grads[1:])
    model.zero_grad()
    total(losses).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in weights.values())


@pytest.mark.parametrize('config', ['deqdet_trees_lite0', 'ffndet_trees_lite0'])
def test_a_query_learns_the_tree_that_its_proposal_overlaps(config):
    """All states have these pairs, also if a state's own box has moved to another tree."""
    model = Config.fromfile(str(CONFIG.with_name(f'{config}.py'))).model
    model.backbone.init_cfg = None
    model = build(model).train()
    head, batch = model.roi_head, batch_of(model, objects=TREES)
    used, proposals = [], []
    losses, start = head.criterion.losses, head.initial_state
    head.criterion.losses = lambda layer, state, targets, pairs, features: (
        used.append((pairs, state, targets)), losses(layer, state, targets, pairs, features))[1]
    head.initial_state = lambda found: (proposals.append(start(found)), proposals[0])[1]
    model.loss(batch['inputs'], batch['data_samples'])
    pairs = used[0][0]
    assert len(used) > 3 and all(pairs is each for each, _, _ in used) and len(pairs) >= 2
    assert proposals[0].logits is None
    for image in range(2):
        truth = used[0][2].instances[image].bboxes
        overlap = bbox_overlaps(proposals[0].box[image], truth)
        matched = pairs.query[pairs.image == image]
        best, target = overlap[matched].max(1)
        assert (best > 0.2).all() and torch.equal(target, pairs.target[pairs.image == image])
        assert set(torch.nonzero(overlap.amax(1) > 0.5).flatten().tolist()) <= set(matched.tolist())


@pytest.mark.parametrize('settings', [{}, dict(use_init_head=False)])
@pytest.mark.parametrize('objects', [TREES, ((), ())])
def test_every_parameter_gets_a_gradient(settings, objects):
    """Distributed training needs it, also for images without objects."""
    model = build(trees_config(**settings))
    total(loss_of(model, objects)).backward()
    assert [name for name, weight in model.named_parameters()
            if weight.requires_grad and weight.grad is None] == []


def test_boxes_stay_in_float32_under_mixed_precision(model):
    batch = batch_of(model, objects=TREES)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        features = model.extract_feat(batch['inputs'])
        score, delta = model.rpn_head.forward_single(features[1])
        queries = model.rpn_head.eval().predict(features, batch['data_samples'])
    assert score.dtype == delta.dtype == queries[0].bboxes.dtype == torch.float32


def test_settings_that_do_not_fit():
    config = trees_config()
    config.test_cfg.rpn = None
    with refused('bad-config', 'model.test_cfg.rpn is missing'):
        MODELS.build(config)
    config = trees_config()
    config.train_cfg.rpn = None
    with refused('bad-config', 'model.train_cfg.rpn is missing'):
        loss_of(build(config))
    config = trees_config()
    config.rpn_head.anchor_generator.strides = [4, 8, 16]
    with refused('settings-mismatch', '[4, 8, 16]', 'featmap_strides=[4, 8, 16, 32]'):
        MODELS.build(config)
    with refused('export-unsupported', 'RegionQueryHead', 'FixPositionEmbeddingRPNHead'):
        split_detector(build(trees_config()))
    config = trees_config()
    config.rpn_head.num_proposals = 0
    with refused('bad-setting', 'RegionQueryHead: num_proposals=0'):
        MODELS.build(config)
    config = trees_config()
    published = Config.fromfile(str(CONFIG.with_name('deqdet_digits.py')))
    config.train_cfg.rcnn = published.model.train_cfg.rcnn
    with refused('settings-mismatch', "match_at='proposals'", 'HungarianAssigner', 'MaxIoUAssigner'):
        MODELS.build(config)
