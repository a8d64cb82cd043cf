"""Matching and losses of one state."""

import math

import pytest
import torch
from deqdet import AdaMixerHead, UsageError
from deqdet.criterion import SetCriterion, Targets
from deqdet.errors import NonFiniteError
from deqdet.state import DecoderState
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from small_model import DEMO_CONFIG, batch_of, build, losses_of, total

WHWH = (100.0, 50.0, 100.0, 50.0)


@pytest.fixture
def criterion():
    return SetCriterion(Config.fromfile(str(DEMO_CONFIG)).model.train_cfg.rcnn[0])


@pytest.fixture
def layer():
    return AdaMixerHead(num_classes=2, content_dim=8, num_heads=1, feat_channels=4, n_groups=1,
                        feedforward_channels=8, in_points=1, out_points=1)


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
    """The query on the object is matched; box losses vanish; the class loss is the focal loss by hand."""
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


def test_without_objects(criterion, layer):
    """No ground truth: class loss above zero and of usual size, box losses zero, gradient everywhere."""
    prediction = state([[10.0, 10, 30, 20]], [[0.0, 0]])
    prediction.box.requires_grad_()
    losses = criterion(layer, prediction, targets([], []), '')
    assert float(losses['loss_cls']) == pytest.approx(4 * focal(0, False), rel=1e-5)
    assert losses['loss_bbox'] == losses['loss_iou'] == 0
    (losses['loss_bbox'] + losses['loss_iou']).backward()
    assert prediction.box.grad is not None


def test_normaliser_sums_over_workers_before_the_clamp(criterion, layer, monkeypatch):
    """One object on one of 4 workers: the other three divide by 1/4 as well."""
    import deqdet.criterion as module
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
    assert float(losses['loss_bbox']) == 0  # the fitting one of the three is matched
    assert len(log) == 1
    assert 'a.png has 3 objects but there are 1 queries' in log[0] and 'num_proposals' in log[0]


def test_label_that_the_head_does_not_have():
    with pytest.raises(UsageError, match='label 2 of a.png .*num_classes=2.*roi_head.bbox_head'):
        targets([[0.0, 0, 9, 9]], [2])


def test_box_that_is_not_finite():
    with pytest.raises(UsageError, match='a.png has an annotated box that is not finite'):
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
    with pytest.raises(NonFiniteError, match='matching cost of iter3 is not finite.* for a.png'):
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
    with pytest.raises(UsageError, match='RandomSampler.*PseudoSampler'):
        SetCriterion(dict(assigner=None, sampler=dict(type='RandomSampler')))
