"""Matching and losses of one state."""

import math

import pytest
import torch
from deqdet import AdaMixerHead
from deqdet.errors import NonFiniteError
from deqdet.model.criterion import SetCriterion
from deqdet.model.state import DecoderState
from deqdet.model.targets import Targets
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from refusals import refused
from small_model import (
    DEMO_CONFIG,
    batch_of,
    build,
    losses_of,
    small_config,
    small_sparse_config,
    total,
)

WHWH = (100.0, 50.0, 100.0, 50.0)


@pytest.fixture
def criterion():
    return SetCriterion(Config.fromfile(str(DEMO_CONFIG)).model.train_cfg.rcnn[0])


def small_layer(**losses):
    return AdaMixerHead(num_classes=2, content_dim=8, num_heads=1, feat_channels=4, n_groups=1,
                        feedforward_channels=8, in_points=1, out_points=1, **losses)


@pytest.fixture
def layer():
    return small_layer()


def state(boxes, logits):
    box, logits = torch.tensor([boxes]), torch.tensor([logits])
    return DecoderState(position=box, content=box, box=box, logits=logits)


def targets(boxes, labels, num_queries=2):
    sample = DetDataSample(metainfo=dict(img_shape=(50, 100), img_path='a.png'))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.tensor(labels, dtype=torch.long))
    return Targets.from_samples([sample], num_classes=2, num_queries=num_queries)


def focal(logit, positive):
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p ** 2 * math.log(1 - p)


def test_perfect_boxes(criterion, layer):
    """The query on the object is matched; box losses are zero; the class loss is the focal loss by hand."""
    losses = criterion(layer, state([[60.0, 10, 80, 30], [10.0, 10, 30, 20]], [[0.0, 0], [1.0, -1]]),
                       targets([[10.0, 10, 30, 20]], [0]), 'x_')
    assert set(losses) == {'x_loss_cls', 'x_loss_bbox', 'x_loss_iou', 'x_pos_acc'}
    assert losses['x_loss_bbox'] == 0
    assert float(losses['x_loss_iou']) == pytest.approx(0, abs=1e-5)
    assert losses['x_pos_acc'] == 100
    by_hand = 2 * (2 * focal(0, False) + focal(1, True) + focal(-1, False))
    assert float(losses['x_loss_cls']) == pytest.approx(by_hand, rel=1e-5)


def test_box_losses_by_hand(criterion, layer):
    losses = criterion(layer, state([[10.0, 10, 30, 20]], [[0.0, 0]]),
                       targets([[20.0, 10, 40, 25]], [1]), '')
    assert float(losses['loss_bbox']) == pytest.approx(5 * (0.1 + 0 + 0.1 + 0.1), rel=1e-5)
    inter, union, hull = 10 * 10, 200 + 300 - 100, 30 * 15
    giou = inter / union - (hull - union) / hull
    assert float(losses['loss_iou']) == pytest.approx(2 * (1 - giou), rel=1e-5)


# The query on the object has IoU 100 / 400 with it.
HALF_OFF = [[60.0, 10, 80, 30], [10.0, 10, 30, 20]], [[0.0, 0], [1.0, -1]]
OBJECT = [[20.0, 10, 40, 25]], [0]


def cross_entropy(logit, target):
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def quality_focal(logit, quality):
    """Generalized Focal Loss, equation 4, with beta = 2."""
    return (quality - 1 / (1 + math.exp(-logit))) ** 2 * cross_entropy(logit, quality)


def varifocal(logit, quality):
    """VarifocalNet, equation 2, with alpha = 0.75 and gamma = 2."""
    p = 1 / (1 + math.exp(-logit))
    return (quality or 0.75 * p ** 2) * cross_entropy(logit, quality)


def matchability(logit, quality):
    """DEIM, equation 4, with gamma = 1.5."""
    p = 1 / (1 + math.exp(-logit))
    return cross_entropy(logit, quality ** 1.5) * (1 if quality else p ** 1.5)


@pytest.mark.parametrize('kind, by_hand', [
    ('MatchabilityAwareLoss', matchability),
    ('QualityFocalLoss', quality_focal), ('VarifocalLoss', varifocal),
    ('CrossEntropyLoss', lambda logit, quality: cross_entropy(logit, quality > 0)),
    ('FocalLoss', lambda logit, quality: focal(logit, quality > 0))])
@pytest.mark.parametrize('weight', [1, 3])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_class_losses_by_hand(kind, by_hand, weight, dtype):
    """Losses that learn box quality get the IoU of matched boxes, without gradient to the boxes."""
    train_cfg = Config.fromfile(str(DEMO_CONFIG)).model.train_cfg.rcnn[0]
    criterion = SetCriterion({**train_cfg, 'pos_weight': weight})
    layer = small_layer(loss_cls=dict(type=kind, use_sigmoid=True, loss_weight=2.0))
    prediction = state(*HALF_OFF)
    prediction = DecoderState(*(part.to(dtype).requires_grad_() for part in prediction))
    losses = criterion(layer, prediction, targets(*OBJECT), '')
    expected = 2 * (2 * by_hand(0, 0) + weight * (by_hand(1, 100 / 400) + by_hand(-1, 0)))
    assert losses['loss_cls'].dtype == dtype or kind == 'CrossEntropyLoss'  # mmdet computes it in float32
    assert float(losses['loss_cls'].detach()) == pytest.approx(expected, rel=1e-6)
    losses['loss_cls'].backward()
    assert prediction.logits.grad.abs().sum() > 0 and prediction.box.grad is None


def test_pairs_of_a_batch():
    """Image, query and object of each pair. Given pairs have the same losses as the whole computation."""
    criterion = SetCriterion(Config.fromfile(str(DEMO_CONFIG)).model.train_cfg.rcnn[0])
    boxes = torch.tensor([[[60.0, 10, 80, 30], [10.0, 10, 30, 20]], [[1.0, 1, 9, 9], [10.0, 10, 30, 20]],
                          [[1.0, 1, 9, 9], [10.0, 10, 30, 20]]])
    batch = DecoderState(boxes, boxes, boxes, torch.zeros(3, 2, 2))
    truth = [([[11.0, 10, 30, 20], [60.0, 10, 80, 29]], [1, 0]), ([], []), ([[1.0, 1, 9, 8]], [1])]
    samples = []
    for corners, labels in truth:
        sample = DetDataSample(metainfo=dict(img_shape=(50, 100)))
        sample.gt_instances = InstanceData(bboxes=torch.tensor(corners).reshape(-1, 4), labels=torch.tensor(
            labels, dtype=torch.long))
        samples.append(sample)
    truth = Targets.from_samples(samples, num_classes=2, num_queries=2)
    pairs = criterion.match(batch, truth, '')
    assert len(pairs) == 3 and pairs.image.tolist() == [0, 0, 2] and pairs.query.tolist() == [0, 1, 0]
    assert pairs.target.tolist() == [1, 0, 0] and pairs.label.tolist() == [0, 1, 1]
    assert pairs.box.tolist() == [[60, 10, 80, 29], [11, 10, 30, 20], [1, 1, 9, 8]]
    layer = small_layer()
    losses = criterion.losses(layer, batch, truth, pairs)
    assert {f'x_{key}': value for key, value in losses.items()} == criterion(layer, batch, truth, 'x_')


class WithDepth(SetCriterion):
    """A further target: the depth of an object, predicted from the mean of its image's finest features."""

    def losses(self, layer, state, targets, pairs, features=None):
        true = torch.cat([truth.depths[pairs.target[pairs.image == image]]
                          for image, truth in enumerate(targets.instances)])
        found = features[0].mean((1, 2, 3))[pairs.image]
        loss = (found - true).abs().sum() / pairs.normaliser
        return {**super().losses(layer, state, targets, pairs, features), 'loss_depth': loss}


def stacked_config():
    config = small_config()
    config.roi_head = dict(type='FFNDetRoIHead', num_stages=2, bbox_head=config.roi_head.bbox_head[:1])
    return config


@pytest.mark.parametrize('config', [small_config, small_sparse_config, stacked_config])
def test_another_target_needs_no_other_head(config):
    """The criterion gets annotations, pairs and features; its loss exists for each supervised state."""
    config, losses = config(), {}
    for kind in (SetCriterion, WithDepth):
        model = build(config)
        criterion = kind(model.roi_head.train_cfg[0])
        model.roi_head.criterion, model.roi_head.criteria = criterion, [criterion] * 2
        batch = batch_of(model)
        for sample in batch['data_samples']:
            sample.gt_instances.depths = 10.0 + torch.arange(len(sample.gt_instances))
        torch.manual_seed(0)
        losses[kind] = model.loss(batch['inputs'], batch['data_samples'])
    depths = {key: value for key, value in losses[WithDepth].items() if key.endswith('loss_depth')}
    assert {key.replace('depth', 'cls') for key in depths} == {
        key for key in losses[SetCriterion] if key.endswith('loss_cls')}
    assert set(losses[WithDepth]) == {*losses[SetCriterion], *depths}
    features = model.extract_feat(batch['inputs'])[0].mean((1, 2, 3)).tolist()
    by_hand = (abs(10 - features[0]) + abs(11 - features[0]) + abs(10 - features[1])) / 3
    assert torch.stack([*depths.values()]).tolist() == pytest.approx([by_hand] * len(depths), rel=1e-4)


@pytest.mark.parametrize('key, kind', [
    ('loss_iou', 'IoULoss'), ('loss_iou', 'DIoULoss'), ('loss_iou', 'CIoULoss'), ('loss_iou', 'EIoULoss'),
    ('loss_iou', 'SIoULoss'), ('loss_iou', 'BoundedIoULoss'), ('loss_bbox', 'SmoothL1Loss'),
    ('loss_bbox', 'BalancedL1Loss'), ('loss_bbox', 'MSELoss')])
def test_other_box_losses_are_those_of_mmdet(criterion, key, kind):
    layer = small_layer(**{key: dict(type=kind, loss_weight=3.0)})
    prediction = state(*HALF_OFF)
    losses = criterion(layer, DecoderState(*(part.double() for part in prediction)), targets(*OBJECT), '')
    scale = torch.tensor(WHWH) if key == 'loss_bbox' else 1
    expected = MODELS.build(dict(type=kind, loss_weight=3.0))(
        prediction.box[0, 1:].double() / scale, torch.tensor(OBJECT[0]).double() / scale)
    # Divided by the number of objects (one), not of coordinates.
    factor = 4 if expected.ndim == 0 and kind in (
        'SmoothL1Loss', 'BalancedL1Loss', 'MSELoss', 'BoundedIoULoss') else 1
    assert losses[key].dtype == torch.float64 and losses[key] > 0
    assert float(losses[key]) == pytest.approx(factor * float(expected), rel=1e-6)


def test_other_costs_match(layer):
    criterion = SetCriterion(dict(assigner=dict(type='HungarianAssigner', match_costs=[
        dict(type='ClassificationCost', weight=1.0), dict(type='IoUCost', iou_mode='iou', weight=2.0)])))
    assert criterion.match(state(*HALF_OFF), targets(*OBJECT), '').query.tolist() == [1]


@pytest.mark.parametrize('losses, words', [
    (dict(loss_cls=dict(type='CrossEntropyLoss')), ['loss_cls', 'use_sigmoid=True']),
    (dict(loss_cls=dict(type='SeesawLoss', use_sigmoid=True)), ['loss_cls: SeesawLoss', 'FocalLoss']),
    (dict(loss_cls=dict(type='EQLV2Loss', num_classes=2)), ['loss_cls: EQLV2Loss', 'FocalLoss']),
    (dict(loss_cls=dict(type='QualityFocalLoss', activated=True)), ['loss_cls: QualityFocalLoss']),
    (dict(loss_cls=dict(type='FocalLoss', reduction='sum')), ['loss_cls: FocalLoss', 'avg_factor']),
    (dict(loss_bbox=dict(type='GHMR')), ['loss_bbox: GHMR', 'L1Loss']),
    (dict(loss_iou=dict(type='GIoULoss', reduction='none')), ['loss_iou: GIoULoss', '2 values', 'reduction']),
])
def test_losses_that_do_not_fit_are_refused_when_the_layer_is_built(losses, words):
    with refused('bad-setting', 'AdaMixerHead', *words):
        small_layer(**losses)


def test_an_assigner_that_does_not_fit_is_refused_when_it_is_built():
    with refused('bad-setting', 'assigner=HungarianAssigner', 'masks', 'FocalLossCost'):
        SetCriterion(dict(assigner=dict(type='HungarianAssigner', match_costs=[dict(type='DiceCost')])))


def by_overlap(**settings):
    return SetCriterion(dict(assigner=dict(type='MaxIoUAssigner', **{**dict(
        pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.1, gt_max_assign_all=False), **settings})))


# Two queries on an object, with IoU 1 and 0.6, one with 0.4, and one elsewhere.
CROWD = [[10.0, 10, 30, 20], [10.0, 10, 30, 16], [10.0, 10, 18, 20], [60.0, 10, 80, 30]]


def test_matching_by_overlap(layer):
    """All queries that overlap the object enough have pairs; losses are divided by the number of pairs."""
    criterion, truth = by_overlap(), targets([[10.0, 10, 30, 20]], [1], num_queries=4)
    logits = [[0.0, 1], [-1.0, 0], [0.0, 0], [0.0, -1]]
    pairs = criterion.match(state(CROWD, logits), truth, '')
    assert pairs.query.tolist() == [0, 1] and pairs.target.tolist() == [0, 0]
    assert pairs.left_out.shape == (2, 0)
    losses = criterion(layer, state(CROWD, logits), truth, '')
    by_hand = 2 / 2 * (focal(1, True) + focal(0, True) + sum(
        focal(logit, False) for logit in (0, -1, 0, 0, 0, -1)))
    assert float(losses['loss_cls']) == pytest.approx(by_hand, rel=1e-5)
    assert float(losses['loss_bbox']) == pytest.approx(5 * (4 / 50) / 2, rel=1e-5)


def test_queries_between_object_and_background_are_left_out(layer):
    criterion, truth = by_overlap(neg_iou_thr=0.3), targets([[10.0, 10, 30, 20]], [1], num_queries=4)
    logits = [[0.0, 1], [-1.0, 0], [0.0, 0], [0.0, -1]]
    pairs = criterion.match(state(CROWD, logits), truth, '')
    assert pairs.query.tolist() == [0, 1] and pairs.left_out.tolist() == [[0], [2]]
    by_hand = 2 / 2 * (focal(1, True) + focal(0, True) + sum(focal(logit, False) for logit in (0, -1, 0, -1)))
    losses = criterion(layer, state(CROWD, logits), truth, '')
    assert float(losses['loss_cls']) == pytest.approx(by_hand, rel=1e-5)


def test_queries_in_ignored_regions_are_left_out():
    """Regions with ``iscrowd=1`` count for assigners that are set to use them."""
    sample = DetDataSample(metainfo=dict(img_shape=(50, 100)))
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[10.0, 10, 30, 20]]), labels=torch.tensor([1]))
    sample.ignored_instances = InstanceData(bboxes=torch.tensor([[55.0, 5, 90, 40]]))
    truth = Targets.from_samples([sample], num_classes=2, num_queries=4)
    crowd = state(CROWD, [[0.0, 0]] * 4)
    assert by_overlap(ignore_iof_thr=0.5).match(crowd, truth, '').left_out.tolist() == [[0], [3]]
    assert by_overlap().match(crowd, truth, '').left_out.tolist() == [[], []]


def test_an_object_without_a_query_may_keep_its_best_one():
    far = state([[20.0, 10, 40, 25], [60.0, 10, 80, 30]], [[0.0, 0]] * 2)  # the first one has IoU 0.25
    truth = targets([[10.0, 10, 30, 20]], [1])
    assert by_overlap().match(far, truth, '').query.tolist() == [0]
    assert by_overlap(min_pos_iou=0.3).match(far, truth, '').query.tolist() == []
    with refused('bad-setting', 'min_pos_iou=0', 'matched to all queries'):
        by_overlap(min_pos_iou=0, gt_max_assign_all=True)


def with_loss(config, **losses):
    heads = config.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        for key, loss in losses.items():
            head[key] = loss
    return config


@pytest.mark.parametrize('config, kind, objects', [
    (small_config, 'QualityFocalLoss', ((2, 7), (4, ))), (small_config, 'MatchabilityAwareLoss', ((), ())),
    (small_sparse_config, 'VarifocalLoss', ((2, 7), (4, )))])
def test_models_learn_the_quality_of_boxes(config, kind, objects):
    model = build(with_loss(config(), loss_cls=dict(type=kind, use_sigmoid=True, loss_weight=2.0)))
    losses = losses_of(model, objects=objects)
    total(losses).backward()
    assert all(0 < float(value.detach()) < 100 for key, value in losses.items() if 'loss_cls' in key)


def test_losses_that_do_not_fit_sparse_rcnn_are_refused():
    with refused('bad-setting', 'DEQ_SparseRoIHead', 'bbox_head', 'loss_bbox', 'GHMR'):
        build(with_loss(small_sparse_config(), loss_bbox=dict(type='GHMR')))


def test_without_objects(criterion, layer):
    """No ground truth: class loss of usual size, box losses zero, gradient everywhere."""
    prediction = state([[10.0, 10, 30, 20]], [[0.0, 0]])
    prediction.box.requires_grad_()
    losses = criterion(layer, prediction, targets([], []), '')
    assert float(losses['loss_cls']) == pytest.approx(4 * focal(0, False), rel=1e-5)
    assert losses['loss_bbox'] == losses['loss_iou'] == 0
    (losses['loss_bbox'] + losses['loss_iou']).backward()
    assert prediction.box.grad is not None


def test_normaliser_sums_over_workers_before_the_clamp(criterion, layer, monkeypatch):
    """One object on one of 4 workers: the other three also divide by 1/4."""
    import deqdet.model.targets as module
    monkeypatch.setattr(module, 'get_world_size', lambda: 4)
    monkeypatch.setattr(module, 'reduce_mean', lambda count: (count + 0) / 4)
    one = criterion(layer, state([[10.0, 10, 30, 20]], [[0.0, 0]]), targets([[1.0, 1, 9, 9]], [0]), '')
    none = criterion(layer, state([[10.0, 10, 30, 20]], [[0.0, 0]]), targets([], []), '')
    assert float(none['loss_cls']) == pytest.approx(2 * 2 * focal(0, False) / 0.25, rel=1e-5)
    assert float(one['loss_cls']) == pytest.approx(
        2 * (focal(0, True) + focal(0, False)) / 0.25, rel=1e-5)


def test_more_objects_than_queries(criterion, layer, log):
    truth = targets([[0.0, 0, 9, 9], [10.0, 10, 30, 20], [50.0, 10, 60, 20]], [0, 1, 0], num_queries=1)
    losses = criterion(layer, state([[10.0, 10, 30, 20]], [[0.0, 3]]), truth, '')
    assert float(losses['loss_bbox']) == 0  # the query that fits is matched
    assert len(log) == 1
    assert all(word in log[0] for word in ('a.png', '3 objects', '1 queries', 'model.rpn_head.num_proposals'))


def test_label_that_the_head_does_not_have():
    with refused('classes-mismatch', 'label 2', 'a.png', 'num_classes=2', 'roi_head.bbox_head'):
        targets([[0.0, 0, 9, 9]], [2])


def test_box_that_is_not_finite():
    with refused('bad-annotations', 'a.png'):
        targets([[0.0, 0, float('nan'), 9]], [1])


@pytest.mark.parametrize('box', [[5.0, 5, 5, 5], [9.0, 9, 2, 3], [-80.0, -80, -60, -60]])
def test_degenerate_boxes_give_finite_losses_and_gradients(box):
    model = build()
    batch = batch_of(model)
    batch['data_samples'][0].gt_instances.bboxes[0] = torch.tensor(box)
    losses = model.loss(batch['inputs'], batch['data_samples'])
    total(losses).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_matching_cost_that_is_not_finite_names_state_and_image(criterion, layer):
    with pytest.raises(NonFiniteError, match='iter3 .*a.png'):
        criterion(layer, state([[10.0, 10, float('nan'), 20]], [[0.0, 0]]),
                  targets([[1.0, 1, 9, 9]], [0]), 'iter3_')


@pytest.mark.parametrize('objects, what', [(((1, ), (2, )), 'matching cost of init'),
                                           (((), ()), 'init_loss_cls = nan')])
def test_training_stops_at_a_loss_that_is_not_finite(objects, what):
    model = build()
    torch.nn.init.constant_(model.roi_head.bbox_head[0].fc_cls.bias, float('nan'))
    with pytest.raises(NonFiniteError) as error:
        losses_of(model, objects=objects)
    message = str(error.value)
    assert what in message and 'iteration' in message
    assert 'image_0.png, image_1.png' in message and '\n' not in message


def test_sampler_must_be_the_pseudo_sampler():
    with refused('bad-setting', 'RandomSampler', 'PseudoSampler'):
        SetCriterion(dict(assigner=None, sampler=dict(type='RandomSampler')))
