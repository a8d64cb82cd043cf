"""Masks in the three decoders: losses, gradients, predictions and settings."""

import pytest
import torch
from deqdet.model.masks import separate
from mmdet.structures.mask import PolygonMasks
from refusals import refused
from small_model import batch_of, build, losses_of, small_config, small_mask_head, small_sparse_config, total

KINDS = ('local', 'global', 'levels')
LOSSES = dict(local={'loss_dice'}, **dict.fromkeys(('global', 'levels'), {'loss_mask', 'loss_dice'}))
# Every kind of mask head, and every decoder.
CASES = pytest.mark.parametrize('kind, decoder', [
    *((kind, 'equilibrium') for kind in KINDS), ('local', 'stacked'), ('levels', 'stacked'),
    ('local', 'sparse')])


def with_masks(kind, decoder='equilibrium', **roi_head):
    """Config of a small detector with masks; None has boxes only."""
    if decoder == 'sparse':
        config = small_sparse_config(**roi_head)
        config.train_cfg.rcnn = config.train_cfg.rcnn[:1]
    else:
        config = small_config(**roi_head)
    if decoder == 'stacked':
        config.roi_head = dict(type='FFNDetRoIHead', num_stages=2, bbox_head=config.roi_head.bbox_head[:1],
                               frozen_stages=roi_head.get('frozen_stages', 0))
    if kind:
        config.roi_head.mask_head = small_mask_head(kind)
        config.train_cfg.rcnn[0].num_points = 64
    return config


def pair_of_models(kind, decoder, **roi_head):
    """The same detector without masks and with masks."""
    without, model = (build(with_masks(each, decoder, **roi_head)) for each in (None, kind))
    assert not without.with_mask and model.with_mask
    state = without.state_dict()
    model.load_state_dict({**model.state_dict(), **state})
    return without, model


@torch.no_grad()
def predicted(model):
    batch = batch_of(model)
    return model.predict(batch['inputs'], batch['data_samples'])


@CASES
def test_masks_change_neither_boxes_nor_their_losses(kind, decoder):
    without, model = pair_of_models(kind, decoder, perturb_content_prob=0, perturb_position_prob=0)
    expected, found = losses_of(without.train()), losses_of(model.train())
    added = {key.rpartition('_loss_')[2] if '_loss_' in key else key.rpartition('loss_')[2]
             for key in found.keys() - expected.keys()}
    assert {f'loss_{name}' for name in added} == LOSSES[kind]
    assert len(found) - len(expected) == len(LOSSES[kind]) * len([k for k in expected if 'loss_cls' in k])
    assert all(torch.equal(found[key], expected[key]) for key in expected)

    plain, masked = predicted(without.eval()), predicted(model.eval())
    for before, after, sample in zip(plain, masked, batch_of(model)['data_samples']):
        before, after = before.pred_instances, after.pred_instances
        assert torch.equal(before.bboxes, after.bboxes) and torch.equal(before.scores, after.scores)
        assert after.masks.shape == (len(after), *sample.ori_shape) and 'masks' not in before


@CASES
@pytest.mark.parametrize('objects', [((), (3, )), ((), ())])
def test_every_parameter_gets_a_gradient(kind, decoder, objects):
    model = build(with_masks(kind, decoder)).train()
    losses = losses_of(model, objects=objects)
    total(losses).backward()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused
    of_masks = [value for key, value in losses.items() if key.endswith(('loss_dice', 'loss_mask'))]
    assert all(value > 0 for value in of_masks) == any(objects)


def test_one_head_for_each_layer_with_its_own_weights():
    model = build(with_masks('local'))
    first, last = model.roi_head.mask_head
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), last.parameters()) if a.dim() > 1)
    names = {name for name in model.state_dict() if 'mask_head' in name}
    assert {name.split('.')[2] for name in names} == {'0', '1'}
    for entries in (1, 2):
        config = with_masks('local')
        config.roi_head.mask_head = [small_mask_head()] * entries
        assert {name for name in build(config).state_dict() if 'mask_head' in name} == names


@pytest.mark.parametrize('kind, changes', [
    ('local', dict(grad_accumulation=False)), ('levels', dict(positions_per_batch=2))])
def test_the_way_to_compute_changes_nothing(kind, changes):
    """Recomputed gradients, and several positions at once; the points are drawn in the same order."""
    gradients = []
    for options in ({}, changes):
        model = build(with_masks(kind, **options)).double().train()
        batch = batch_of(model)
        torch.manual_seed(0)
        total(model.loss(batch['inputs'].double(), batch['data_samples'])).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert gradients[0].dtype == torch.float64
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('decoder', ['equilibrium', 'stacked'])
def test_a_frozen_stage_freezes_its_mask_head(decoder):
    model = build(with_masks('local', decoder, frozen_stages=1)).train()
    total(losses_of(model)).backward()
    first, last = model.roi_head.mask_head[0], model.roi_head.mask_head[-1]
    assert not first.training and all(p.grad is None for p in first.parameters())
    assert last.training and all(p.grad is not None for p in last.parameters())


@pytest.mark.parametrize('kind', KINDS)
def test_mixed_precision(kind):
    """Losses are computed in float32, and are close to those without mixed precision."""
    model = build(with_masks(kind, perturb_content_prob=0, perturb_position_prob=0)).train()
    exact = losses_of(model)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = losses_of(model)
    for key, value in found.items():
        if key.startswith('init_loss_') and key.endswith(('dice', 'mask')):
            assert value.dtype == torch.float32
            assert value.item() == pytest.approx(exact[key].item(), rel=0.05)
    total(found).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize('kind', ['local', 'global'])
def test_polygons_give_about_the_losses_of_their_bitmaps(kind):
    model, losses = build(with_masks(kind)).train(), []
    for polygons in (False, True):
        batch = batch_of(model)
        for sample in batch['data_samples']:
            truth = sample.gt_instances
            corners = [[torch.stack([x1, y1, x2, y1, x2, y2, x1, y2]).numpy()]
                       for x1, y1, x2, y2 in truth.bboxes.round()]
            masks = PolygonMasks(corners, *truth.masks.masks.shape[1:])
            truth.masks = masks if polygons else masks.to_bitmap()
        torch.manual_seed(0)
        losses.append(model.loss(batch['inputs'], batch['data_samples']))
    for key, value in losses[0].items():
        assert value.item() == pytest.approx(losses[1][key].item(), rel=0.1), key


def test_large_maps_in_blocks(monkeypatch):
    model = build(with_masks('levels')).double().eval()  # in float32 a cell on the limit may change
    batch = batch_of(model)
    inputs = batch['inputs'].double()
    with torch.no_grad():
        whole = model.predict(inputs, batch['data_samples'])
        monkeypatch.setattr(separate, '_BLOCK', 1)
        single = model.predict(inputs, batch['data_samples'])
    for a, b in zip(whole, single):
        assert torch.equal(a.pred_instances.masks, b.pred_instances.masks)
        assert a.pred_instances.masks.any()


@pytest.mark.parametrize('kind', KINDS)
def test_only_wanted_detections_get_masks(kind):
    model = build(with_masks(kind)).eval()
    batch, head = batch_of(model), model.roi_head
    with torch.no_grad():
        every = model.predict(batch['inputs'], batch['data_samples'])
        middle = every[0].pred_instances.scores.median().item()
        settings = head.prediction_with(score_thr=middle, max_per_img=3)
        few = model.predict(batch['inputs'], batch['data_samples'], settings=settings)
        none = model.predict(batch['inputs'], batch['data_samples'],
                             settings=head.prediction_with(score_thr=0.999))
    for a, b, c in zip(every, few, none):
        count = len(b.pred_instances)
        assert count <= 3
        # Products of another size round differently, which moves a pixel at the threshold.
        assert (a.pred_instances.masks[:count] != b.pred_instances.masks).float().mean() < 1e-3
        assert c.pred_instances.masks.shape == (0, *a.pred_instances.masks.shape[1:])


@pytest.mark.parametrize('kind', KINDS)
def test_threshold_of_masks(kind):
    model = build(with_masks(kind)).eval()
    batch, head = batch_of(model), model.roi_head
    with torch.no_grad():
        areas = [sum(sample.pred_instances.masks.sum().item() for sample in model.predict(
            batch['inputs'], batch['data_samples'], settings=head.prediction_with(mask_thr_binary=threshold)))
            for threshold in (0.2, 0.5, 0.8)]
    assert areas[0] > areas[2] and areas == sorted(areas, reverse=True)


def test_start_from_an_equilibrium_has_masks():
    model = build(with_masks('local')).eval()
    batch = batch_of(model)
    with torch.no_grad():
        first = model.predict(batch['inputs'], batch['data_samples'], start=[None, None])
        again = model.predict(batch['inputs'], batch['data_samples'],
                              start=[sample.equilibrium for sample in first])
    assert all(len(sample.pred_instances.masks) == len(sample.pred_instances) for sample in again)


def changed(kind, **options):
    return {**small_mask_head(kind), **options}


EXTRACTOR = small_mask_head()['mask_roi_extractor']
BAD = [
    (dict(type='DynamicMaskHead'), 'bad-setting', ['DynamicMaskHead', 'WarpedEfficientDynamicMaskHead']),
    ([small_mask_head()] * 3, 'bad-setting', ['mask_head', '1 or 2', '3']),
    (changed('local', num_classes=3), 'settings-mismatch', ['num_classes=3', '10']),
    (changed('local', in_channels=128), 'settings-mismatch', ['in_channels=128', '64']),
    (changed('local', mask_roi_extractor={**EXTRACTOR, 'out_channels': 32}), 'settings-mismatch',
     ['mask_roi_extractor.out_channels=32', '64']),
    (changed('local', mask_roi_extractor={**EXTRACTOR, 'featmap_strides': [8, 16]}), 'settings-mismatch',
     ['[8, 16]', '[4, 8, 16, 32]']),
    (changed('global', embed_dim=32), 'settings-mismatch', ['embed_dim=32', '64']),
    (changed('levels', mlvl=5), 'settings-mismatch', ['mlvl=5', 'mlvl=4']),
    (changed('levels', mlvl=0), 'bad-setting', ['mlvl=0', '1']),
    (changed('levels', share_filter=3), 'bad-setting', ['share_filter=3', 'True or False']),
    (changed('local', dynamic_conv_cfg={**small_mask_head()['dynamic_conv_cfg'], 'in_channels': 3}),
     'settings-mismatch', ['dynamic_conv_cfg.in_channels=3', 'in_channels=64']),
    (changed('local', dynamic_conv_cfg={**small_mask_head()['dynamic_conv_cfg'], 'out_channels': 3}),
     'settings-mismatch', ['dynamic_conv_cfg.out_channels=3', 'in_channels=64']),
    ('local', 'bad-setting', ["mask_head='local'", 'dict']),
    (True, 'bad-setting', ['mask_head=True', 'dict']),
    ([small_mask_head(), None], 'bad-setting', ['mask_head=None', '2 decoder layers']),
]


@pytest.mark.parametrize('mask_head, code, words', BAD)
def test_bad_mask_heads_are_named_at_once(mask_head, code, words):
    with refused(code, *words):
        build(mask_head=mask_head)


@pytest.mark.parametrize('key, value', [
    ('mask_size', 0), ('num_points', 2.5), ('oversample_ratio', 0.5), ('importance_sample_ratio', 2)])
def test_bad_settings_of_mask_losses(key, value):
    config = with_masks('local')
    config.train_cfg.rcnn[0][key] = value
    with refused('bad-setting', f'train_cfg.rcnn.{key}={value}'):
        build(config)


def test_data_without_masks():
    model = build(with_masks('local')).train()
    batch = batch_of(model)
    for sample in batch['data_samples']:
        del sample.gt_instances.masks
    with refused('bad-config', 'mask_head', 'image_0.png', 'with_mask=True'):
        model.loss(batch['inputs'], batch['data_samples'])


def test_size_of_true_masks_must_be_that_of_the_maps():
    config = with_masks('local')
    config.train_cfg.rcnn[0].mask_size = 14
    with refused('settings-mismatch', 'mask_size=14', '28'):
        losses_of(build(config).train())


@pytest.mark.parametrize('decoder', ['equilibrium', 'stacked', 'sparse'])
def test_local_maps_of_56_cells(decoder):
    """Enlarged four times instead of twice, by two settings."""
    config = with_masks('local', decoder)
    config.roi_head.mask_head.upsample_cfg = dict(type='deconv', scale_factor=4)
    config.train_cfg.rcnn[0].mask_size = 56
    model = build(config).train()
    losses = losses_of(model)
    total(losses).backward()
    assert all(value > 0 for key, value in losses.items() if key.endswith('loss_dice'))
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    head = model.eval().roi_head.mask_head[-1]
    assert head.maps(torch.randn(2, 64, 14, 14), torch.randn(2, 64)).shape == (2, 10, 56, 56)
    for found in predicted(model):
        assert found.pred_instances.masks.shape == (len(found.pred_instances), *found.ori_shape)
    config.train_cfg.rcnn[0].mask_size = 28
    with refused('settings-mismatch', 'mask_size=28', '56'):
        losses_of(build(config).train())


def test_the_sampler_of_published_configs_is_accepted():
    config = with_masks('global')
    config.train_cfg.rcnn[0].sampler = dict(type='UnifiedPseudoSampler')
    assert total(losses_of(build(config).train())).isfinite()
