"""Matching costs that see masks, in the three decoders."""

import numpy as np
import pytest
import torch
from deqdet.model.masks import DeCoupleHead, MaskSupervision, MaskTraining
from deqdet.model.targets import Targets
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from refusals import refused
from small_model import batch_of, build, losses_of, small_config, small_mask_head, small_sparse_config, total
from torch.nn import functional as F

DICE = dict(type='DiceCost', weight=5.0, pred_act=True, eps=1.0)
FOCAL = dict(type='FocalLossCost', weight=20.0, binary_input=True)


def with_costs(*costs, mask_head='global', decoder='equilibrium', **roi_head):
    """Config of a small detector with a mask head and further matching costs."""
    if decoder == 'sparse':
        config = small_sparse_config(**roi_head)
        config.train_cfg.rcnn = config.train_cfg.rcnn[:1]
    else:
        config = small_config(**roi_head)
    if decoder == 'stacked':
        config.roi_head = dict(type='FFNDetRoIHead', num_stages=2, bbox_head=config.roi_head.bbox_head[:1])
    if mask_head is not None:
        kinds = mask_head if isinstance(mask_head, list) else [mask_head]
        config.roi_head.mask_head = [small_mask_head(kind) for kind in kinds]
    matching = config.train_cfg.rcnn[0]
    matching.update(num_points=64, match_points=128)
    matching.assigner.match_costs = [*matching.assigner.match_costs, *costs]
    return config


@torch.no_grad()
def equal_boxes(model, batch):
    """Features of a batch, and a state whose queries differ in nothing but their contents."""
    features = model.extract_feat(batch['inputs'])
    state = model.roi_head.initial_state(model.rpn_head.predict(features, batch['data_samples']))
    box = torch.tensor([20.0, 20, 70, 60]).expand_as(state.box)
    return features, state._replace(
        box=box, content=20 * torch.randn_like(state.content), logits=torch.zeros(*box.shape[:2], 10))


@pytest.mark.parametrize('mask_head', ['global', 'levels'])
@pytest.mark.parametrize('costs', [[DICE], [FOCAL], [DICE, FOCAL],
                                   [dict(type='CrossEntropyLossCost', weight=2.0)]])
def test_the_query_with_the_right_mask_is_matched(mask_head, costs):
    """Boxes and classes of all queries are equal; the true masks are those of two queries."""
    matched = {}
    for used in ([], costs):
        model = build(with_costs(*used, mask_head=mask_head))
        head, batch = model.roi_head, batch_of(model)
        features, state = equal_boxes(model, batch)
        wanted = [(7, 4), (9, )]
        for image, (sample, queries) in enumerate(zip(batch['data_samples'], wanted)):
            with torch.no_grad():
                maps = head.mask_head[-1]([level[image:image + 1] for level in features],
                                          state.content[image:image + 1])
            true = F.interpolate(maps, scale_factor=4, mode='bilinear')[0, list(queries)] > 0
            sample.gt_instances.masks = BitmapMasks(true.numpy().astype(np.uint8), *true.shape[1:])
            sample.gt_instances.bboxes = state.box[image, :len(queries)].clone()
        targets = Targets.from_samples(batch['data_samples'], num_classes=10, num_queries=12)
        pairs = head.criterion.match(state, targets, '', head.mask_supervision(features, targets).of(-1))
        matched[bool(used)] = {
            (image, target): query for image, target, query in
            zip(pairs.image.tolist(), pairs.target.tolist(), pairs.query.tolist())}
    assert matched[True] == {(0, 0): 7, (0, 1): 4, (1, 0): 9}
    assert matched[False] != matched[True]


@pytest.mark.parametrize('kind', ['global', 'levels'])
def test_logits_at_points_are_those_of_the_map(kind):
    """Features that grow evenly in x and y have no rounding by interpolation, except near the border."""
    torch.manual_seed(0)
    head = MODELS.build({**small_mask_head(kind), 'embed_dim': 8}).double()
    levels = []
    for cells in (32, 16, 8, 4):
        y, x = torch.meshgrid(*[(torch.arange(cells, dtype=torch.double) + 0.5) / cells] * 2, indexing='ij')
        levels.append(torch.stack([a * x + b * y for a, b in torch.randn(8, 2).tolist()]))
    content = torch.randn(5, 8, dtype=torch.double)
    pixels = F.interpolate(head(levels, content)[None], size=(64, 64), mode='bilinear')[0]
    row, column = torch.randint(16, 48, (2, 30))
    points = torch.stack([column + 0.5, row + 0.5], dim=-1).double() / 64
    assert torch.allclose(head.at_points(levels, content, points), pixels[:, row, column], atol=1e-12)


def test_true_masks_at_points():
    """Against the formula of the ellipses; the second image is padded from 64 to 96 rows."""
    model = build(with_costs(DICE))
    model.roi_head.mask_head[-1].settings = MaskTraining(match_points=4000)
    batch = batch_of(model)
    features, state = equal_boxes(model, batch)
    targets = Targets.from_samples(batch['data_samples'], num_classes=10, num_queries=12)
    for image, truth in enumerate(targets.instances):
        torch.manual_seed(image)
        logits, true = model.roi_head.mask_supervision(features, targets).at_points(-1, state, image)
        assert logits.shape == (12, 4000) and true.shape == (len(truth), 4000)
        torch.manual_seed(image)
        x, y = 96 * torch.rand(4000, 2).T
        for (x1, y1, x2, y2), found in zip(truth.bboxes.tolist(), true):
            distance = (((x - (x1 + x2) / 2) / (x2 - x1) * 2) ** 2
                        + ((y - (y1 + y2) / 2) / (y2 - y1) * 2) ** 2).sqrt()
            clear = (distance - 1).abs() * min(x2 - x1, y2 - y1) / 2 > 1  # more than a pixel
            assert torch.equal(found[clear] == 1, distance[clear] < 1)
            assert clear.float().mean() > 0.9 and 0 < found.mean() < 1
    batch['data_samples'][1].gt_instances.masks = BitmapMasks(np.ones((1, 64, 96), np.uint8), 64, 96)
    targets = Targets.from_samples(batch['data_samples'], num_classes=10, num_queries=12)
    torch.manual_seed(1)
    _, true = model.roi_head.mask_supervision(features, targets).at_points(-1, state, 1)
    assert torch.equal(true[0] == 1, y < 64)


@pytest.mark.parametrize('decoder', ['equilibrium', 'stacked', 'sparse'])
@pytest.mark.parametrize('objects', [((2, 7), (4, )), ((), (3, )), ((), ())])
def test_every_decoder_learns(decoder, objects):
    model = build(with_costs(DICE, FOCAL, decoder=decoder, mask_head='levels')).train()
    losses = losses_of(model, objects=objects)
    total(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.fixture
def drawn(monkeypatch):
    """The points, logits and types of the features of each matching that sees masks."""
    calls, real = [], DeCoupleHead.at_points

    def recorded(head, levels, content, points):
        logits = real(head, levels, content, points)
        calls.append((points, logits, {level.dtype for level in levels}))
        return logits

    monkeypatch.setattr(DeCoupleHead, 'at_points', recorded)
    return calls


def test_every_state_draws_its_own_points(drawn):
    """Images without objects need none. A seed gives the same points and losses again."""
    model = build(with_costs(DICE)).train()
    losses = [losses_of(model, objects=((2, 7), (), (4, )), seed=seed) for seed in (0, 0, 1)]
    states = len([key for key in losses[0] if key.endswith('loss_cls')])
    points = torch.stack([points for points, *_ in drawn]).view(3, states * 2, 128, 2)
    assert len(points[0].unique(dim=0)) == states * 2
    assert torch.equal(points[0], points[1]) and not torch.equal(points[0], points[2])
    assert all(torch.equal(value, losses[1][key]) for key, value in losses[0].items())


def test_points_and_types_in_every_precision(drawn):
    """The costs are in float32 under mixed precision; float64 models see the same points."""
    found = {}
    for kind in ('float32', 'amp', 'float64'):
        model = build(with_costs(DICE, FOCAL)).train()
        batch = batch_of(model)
        if kind == 'float64':
            model, batch['inputs'] = model.double(), batch['inputs'].double()
        torch.manual_seed(0)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=kind == 'amp'):
            losses = model.loss(batch['inputs'], batch['data_samples'])
        total(losses).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        # Later states depend on the noise of the path, which has another type in float64.
        found[kind] = drawn[0]
        drawn.clear()
    for kind, (points, logits, dtypes) in found.items():
        assert {points.dtype, logits.dtype, *dtypes} == {
            torch.float64 if kind == 'float64' else torch.float32}, kind
        assert not logits.requires_grad
        assert torch.equal(points.float(), found['float32'][0])
    assert torch.allclose(found['float64'][1].float(), found['float32'][1], atol=1e-3)


@pytest.mark.parametrize('changes', [dict(grad_accumulation=False), dict(positions_per_batch=2)])
def test_the_way_to_compute_changes_nothing(changes):
    gradients = []
    for options in ({}, changes):
        model = build(with_costs(DICE, FOCAL, **options)).double().train()
        batch = batch_of(model)
        torch.manual_seed(0)
        total(model.loss(batch['inputs'].double(), batch['data_samples'])).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


def test_without_such_costs_no_points_are_drawn(monkeypatch):
    """The random numbers, and so the losses, are those of a model that knows nothing of these costs."""
    def never(*args):
        raise AssertionError('not needed')

    monkeypatch.setattr(MaskSupervision, 'at_points', never)
    after = []
    for mask_head in (None, 'local'):  # local masks draw nothing
        losses_of(build(with_costs(mask_head=mask_head)).train())
        after.append(torch.get_rng_state())
    assert torch.equal(*after)
    losses_of(build(with_costs()).train())


@pytest.mark.parametrize('decoder', ['equilibrium', 'stacked', 'sparse'])
@pytest.mark.parametrize('cost', [DICE, FOCAL])
def test_costs_without_global_masks_are_refused(decoder, cost):
    for mask_head, found in [(None, 'missing'), ('local', 'WarpedEfficientDynamicMaskHead'),
                             (['global', 'local'], 'WarpedEfficientDynamicMaskHead')]:
        with refused('settings-mismatch', 'match_costs', found, 'DeCoupleHead', 'DeCoupleMLVLEHead'):
            build(with_costs(cost, mask_head=mask_head, decoder=decoder))


def test_bad_settings_are_refused():
    with refused('bad-setting', 'match_costs.3', 'DiceCost', 'pred_act=True'):
        build(with_costs(dict(type='DiceCost')))
    config = with_costs(DICE)
    config.train_cfg.rcnn[0].match_points = 0
    with refused('bad-setting', 'train_cfg.rcnn.match_points=0'):
        build(config)


def test_costs_need_masks_in_the_data():
    model = build(with_costs(DICE)).train()
    batch = batch_of(model)
    for sample in batch['data_samples']:
        del sample.gt_instances.masks
    with refused('bad-config', 'mask_head', 'image_0.png', 'with_mask=True'):
        model.loss(batch['inputs'], batch['data_samples'])
