"""Selection from the scores of queries, with values computed by hand."""

import numpy as np
import pytest
import torch
from deqdet.model.selection import Suppression, select_detections, select_queries
from mmengine.config import Config
from refusals import refused
from small_model import ROOT, batch_of, build, small_config, small_sparse_config


def logit(*scores):
    return torch.tensor(scores).logit()


# Two queries at one place, with areas 100 and 120 and intersection 100: IoU 5 / 6; one far away, and one left
# of the image.
BOX = torch.tensor([[0.0, 0, 10, 10], [0, 0, 12, 10], [50, 50, 60, 60], [-200, 0, -190, 10]])
SCORES = torch.stack([logit(0.9, 0.2), logit(0.8, 0.7), logit(0.6, 0.1), logit(0.05, 0.5)])


def selected(**options):
    found = select_detections(SCORES, BOX, {}, rescale=False, **{'max_per_img': 100, **options})
    return [(round(score, 3), label, box[0]) for score, label, box in
            zip(found.scores.tolist(), found.labels.tolist(), found.bboxes.tolist())]


def test_scores_above_a_threshold():
    assert selected(score_thr=0.55) == [(0.9, 0, 0), (0.8, 0, 0), (0.7, 1, 0), (0.6, 0, 50)]
    assert selected(score_thr=0.55, max_per_img=2) == [(0.9, 0, 0), (0.8, 0, 0)]
    assert selected(score_thr=0.95) == []
    assert len(selected()) == 8


def test_suppression_is_of_the_same_class():
    """0.8 overlaps 0.9 of its class; 0.7 is of the other class, where it suppresses 0.2."""
    nms = Suppression('nms', (('iou_threshold', 0.5), ))
    assert selected(nms=nms, score_thr=0.15) == [(0.9, 0, 0), (0.7, 1, 0), (0.6, 0, 50), (0.5, 1, -200)]
    # As in mmdet, max_per_img applies after suppression: 0.8 does not count.
    assert selected(nms=nms, max_per_img=2) == [(0.9, 0, 0), (0.7, 1, 0)]
    above = Suppression('nms', (('iou_threshold', 0.85), ))
    assert selected(nms=above, score_thr=0.15)[:3] == [(0.9, 0, 0), (0.8, 0, 0), (0.7, 1, 0)]
    of_all = Suppression('nms', (('iou_threshold', 0.5), ('class_agnostic', True)))
    assert selected(nms=of_all, score_thr=0.15) == [(0.9, 0, 0), (0.6, 0, 50), (0.5, 1, -200)]
    assert selected(nms=nms, score_thr=0.95) == []


def test_queries_of_the_detections():
    """They lead to other predictions of a query. Results of mmdet have only the published fields."""
    found = select_queries(SCORES, BOX, max_per_img=3, score_thr=0.5)
    assert (found.query.tolist(), found.label.tolist()) == ([0, 1, 1], [0, 0, 1])
    found = select_queries(SCORES, BOX, max_per_img=3, nms=Suppression())
    assert (found.query.tolist(), found.label.tolist()) == ([0, 1, 2], [0, 1, 0])
    assert torch.equal(found.detections(BOX, {}, rescale=False).bboxes, BOX[:3])
    result = found.detections(BOX, dict(scale_factor=(0.5, 2.0)), rescale=True)
    assert set(result.keys()) == {'scores', 'labels', 'bboxes'}
    assert result.bboxes[2].tolist() == [100, 25, 120, 30]


def test_classes_stay_apart_left_of_the_image():
    """mmcv shifts class k by k times the largest coordinate, here 11 pixels: onto the other class's box."""
    box = torch.tensor([[0.0, 0, 10, 10], [-11, -11, -1, -1]])
    found = select_detections(torch.stack([logit(0.9, 0.01), logit(0.01, 0.8)]), box, {}, max_per_img=10,
                              rescale=False, score_thr=0.5, nms=Suppression())
    assert found.labels.tolist() == [0, 1]


def stacked_config():
    model = Config.fromfile(str(ROOT / 'configs/deqdet/ffndet_digits.py')).model
    model.backbone.update(base_channels=4, stem_channels=4)
    model.neck.in_channels = [4, 8, 16, 32]
    model.roi_head.num_stages = 1
    return model


@pytest.mark.parametrize('config', [small_config, small_sparse_config, stacked_config])
@torch.no_grad()
def test_settings_of_a_config(config):
    """All heads follow the settings of the config."""
    config, found = config(), {}
    config.test_cfg.rcnn.max_per_img = 100
    model = build(config).eval()
    torch.nn.init.normal_(model.roi_head.bbox_head[-1].fc_cls.weight, std=0.3)
    batch = batch_of(model)
    everything = model.test_step(dict(inputs=list(batch['inputs']), data_samples=batch['data_samples']))
    everything = everything[0].pred_instances
    middle = everything.scores[len(everything) // 2].item()
    for name, rcnn in (('thr', dict(score_thr=middle)),
                       ('nms', dict(nms=dict(type='nms', iou_threshold=0.3)))):
        config.test_cfg.rcnn = {'max_per_img': 100, **rcnn}
        other = build(config).eval()
        other.load_state_dict(model.state_dict())
        found[name] = other.test_step(
            dict(inputs=list(batch['inputs']), data_samples=batch['data_samples']))[0].pred_instances
    expected = everything[everything.scores > middle]
    assert 0 < len(expected) < len(everything)
    assert torch.equal(found['thr'].bboxes, expected.bboxes)
    box, label = found['nms'].bboxes.double().numpy(), found['nms'].labels.numpy()
    assert 0 < len(box) <= len(everything)
    low = np.maximum(box[:, None, :2], box[None, :, :2])
    high = np.minimum(box[:, None, 2:], box[None, :, 2:])
    shared = (high - low).clip(min=0).prod(-1)
    area = (box[:, 2:] - box[:, :2]).prod(-1)
    overlap = shared / (area[:, None] + area - shared)
    same = (label[:, None] == label) & ~np.eye(len(label), dtype=bool)
    assert not same.any() or overlap[same].max() <= 0.3 + 1e-6


@pytest.mark.parametrize('rcnn, code, words', [
    (dict(score_thr=1.5), 'bad-setting', ['score_thr=1.5', '0', '1']),
    (dict(score_thr='0.5'), 'bad-setting', ["score_thr='0.5'"]),
    (dict(nms=0.5), 'bad-setting', ['nms=0.5', "dict(type='nms'"]),
    (dict(nms=dict(type='nms')), 'bad-setting', ['iou_threshold=None', '0 to 1']),
    (dict(nms=dict(type='nms', iou_thr=0.5)), 'unknown-setting', ["'iou_thr'", 'iou_threshold']),
    (dict(nms=dict(type='wbf', iou_threshold=0.5)), 'unknown-type', ["'wbf'", 'nms', 'soft_nms']),
    (dict(nms=dict(iou_threshold=50)), 'bad-setting', ['iou_threshold=50', '0 to 1']),
    (dict(solver=dict(type='anderson', damping='x')), 'bad-setting', ["damping='x'"]),
    (dict(tolerance=dict(content='x')), 'bad-setting', ["content='x'"]),
], ids=str)
def test_wrong_values_are_refused_when_the_model_is_built(rcnn, code, words):
    config = small_config()
    config.test_cfg.rcnn.update(rcnn)
    with refused(code, 'test_cfg.rcnn', *words):
        build(config)


def test_soft_nms_without_its_operator(monkeypatch):
    monkeypatch.setattr('deqdet.model.heads.prediction.has_operator', lambda name: name == 'nms')
    config = small_config()
    config.test_cfg.rcnn.nms = dict(type='soft_nms', iou_threshold=0.5)
    with refused('missing-package', 'soft_nms', 'mmcv', "dict(type='nms'"):
        build(config)
    monkeypatch.undo()


def test_settings_that_a_decoder_does_not_have():
    """They belong to another head."""
    stacked, deq = build(stacked_config()).roi_head, build().roi_head
    with refused('bad-argument', 'FFNDetRoIHead', '5 refinements'):
        stacked.settings_or_own(deq.prediction)
    with refused('bad-argument', 'DEQDetRoIHead', '0 refinements'):
        deq.settings_or_own(stacked.prediction)
    sparse = build(small_sparse_config()).roi_head
    with refused('bad-argument', 'solve_dtype', 'DEQ_SparseRoIHead'):
        sparse.settings_or_own(deq.prediction_with(solve_dtype='bfloat16'))
    with refused('unknown-setting', "'refinement_stps'", 'refinement_steps'):
        deq.prediction_with(refinement_stps=3)


@pytest.mark.parametrize('part, value', [('train_cfg', dict(assigner=dict(type='MaxIoUAssigner'))),
                                         ('test_cfg', dict(nms_pre=1000))])
def test_settings_of_an_rpn_are_named(part, value, log):
    """There is no region proposal network, so these settings have no effect."""
    config = small_config()
    config[part].rpn = value
    build(config)
    assert sum(f'model.{part}.rpn has no effect' in line for line in log) == 1


def test_matching_that_is_not_used_is_named(log):
    """Only the first entry of a list is used, for all layers."""
    config = small_config()
    first = config.train_cfg.rcnn[0] if isinstance(config.train_cfg.rcnn, list) else config.train_cfg.rcnn
    config.train_cfg.rcnn = [first, first]
    build(config)
    assert not any('no effect' in line for line in log)
    config.train_cfg.rcnn = [first, {**first, 'pos_weight': 2}, {**first, 'debug': True}]
    build(config)
    second, third = [line for line in log if 'no effect' in line]
    assert 'train_cfg.rcnn.1' in second and 'train_cfg.rcnn.0' in second
    assert 'train_cfg.rcnn.2: debug' in third
