"""Tables and figures of a study, and what they read."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from deqdet.analysis import build_untrained, cost_of, total_of
from deqdet.analysis.complexity import cost_of_call
from deqdet.analysis.study import Outcome, Variant, curve_rows, outcome_of, share_rows, summary, with_test
from deqdet.analysis.study.costs import cost_rows
from deqdet.analysis.study.figures import draw_costs, draw_curves
from deqdet.analysis.study.tables import curve_of
from deqdet.analysis.study.turns import multiply_adds
from mmdet.structures import DetDataSample
from refusals import says
from small_model import ROOT, batch_of, build

ONE, OTHER = (Variant(name=name, config=Path()) for name in ('one', 'other'))


def trained(epochs, minutes=2.0, test=0.0, **validations):
    """A training with its AP by epoch; ``e2=0.5``: 0.5 after 2 epochs."""
    found = {int(name[1:]): {'AP': value} for name, value in validations.items()}
    return Outcome({'AP': test or found[epochs]['AP']}, minutes, epochs, validations=found)


def test_ap_after_parts_of_the_time():
    rows = curve_rows({ONE: [trained(8, e2=0.2, e4=0.4, e6=0.5, e8=0.6), trained(8, e2=0.4, e4=0.5, e8=0.7)],
                       OTHER: [trained(3, e3=0.5)]})
    first, second = rows
    assert (first['epoch at 1/4'], first['epoch at 1/2'], first['epoch at 1']) == (2, 4, 8)
    assert first['AP at 1/4'] == pytest.approx(0.3) and first['AP at 1'] == pytest.approx(0.65)
    assert second['AP at 1/4'] == second['epoch at 1/2'] == '' and second['AP at 1'] == 0.5
    assert not curve_rows({OTHER: [trained(3, e3=0.5)]}), 'the last validation alone is no curve'


def test_lines_of_the_curve():
    first, second, mean = curve_of([trained(4, minutes=8.0, e1=0.2, e4=0.4),
                                    trained(4, minutes=12.0, e1=0.4, e4=0.8)], 'AP')
    assert first == [(2, 0.2), (8, 0.4)] and second == [(3, 0.4), (12, 0.8)]
    assert np.array(mean) == pytest.approx(np.array([(2.5, 0.3), (10, 0.6)]))
    axis, = draw_curves({ONE: [trained(4, e1=0.2, e4=0.4)], OTHER: []}, 'tune').axes
    assert axis.get_ylabel() == 'AP on tune' and len(axis.lines) == 2


def test_validation_and_test_in_one_row():
    row, = summary({ONE: [trained(2, e2=0.6, test=0.5), trained(2, e2=0.8, test=0.6)]}, validation='tune',
                   steps={'one': dict(seconds=3.0, batches=10)}, minutes=0.8)
    assert row['AP'] == pytest.approx(0.55) and row['AP, tune'] == pytest.approx(0.7)
    assert row['planned minutes'] == 1 and row['from equal time'] == '+25%'


def test_shares_side_by_side():
    rows = share_rows({(ONE, 0.5): [trained(4, e4=0.25)], (ONE, 1): [trained(2, e2=0.5)], (OTHER, 1): []})
    assert [(row['share'], row['epochs'], row['AP']) for row in rows] == [(0.5, 4, 0.25), (1, 2, 0.5)]


def test_costs_that_cannot_be_counted():
    rows = summary({ONE: [trained(2, e2=0.5)], OTHER: [trained(2, e2=0.4)]})
    costs = cost_rows(rows, {'one': dict(seconds=0.2, memory=0.7, batches=3)}, {
        'one': dict(seconds=0.01, parameters=4_000_000, gflops='NotImplementedError')}, ('AP', ))
    assert costs[0] == {'variant': 'one', 'AP': 0.5, 'parameters M': 4, 'GFLOPs': 'NotImplementedError',
                        'image ms': 10, 'minutes': 2, 'step ms': 200, 'memory GB': 0.7}
    assert costs[1]['image ms'] == costs[1]['memory GB'] == ''
    axis, = draw_costs(costs, 'test').axes
    assert [list(line.get_xdata()) for line in axis.lines] == [[10]]
    assert draw_costs(costs[1:], 'test') is None


def test_cost_of_a_prediction_is_that_of_its_parts():
    model = build().eval()
    batch = batch_of(model, ((2, ), ))
    shape = tuple(batch['inputs'].shape[-2:])
    whole, _ = cost_of_call(model, model.predict, batch['inputs'], batch['data_samples'])
    parts = cost_of(model, shape)
    steps = model.roi_head.prediction.refinements
    assert whole.total == pytest.approx(sum(total_of(parts, steps)), rel=0.01)


@pytest.mark.parametrize('path', [
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'atss/atss_r50_fpn_1x_coco.py',
    'rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'dino/dino-4scale_r50_8xb2-12e_coco.py'])
def test_cost_of_detectors_of_mmdet(config_of_mmdet, path):
    model = build_untrained(config_of_mmdet(path)).eval()
    shape = (256, 256)  # enough cells for the 900 queries of DINO
    sample = DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1., 1.),
                                         batch_input_shape=shape, pad_shape=shape))
    batch = dict(inputs=[torch.zeros(3, *shape, dtype=torch.uint8)], data_samples=[sample])
    with torch.no_grad():
        backbone, _ = cost_of_call(model.backbone, model.backbone, torch.zeros(1, 3, *shape))
        assert backbone.total < multiply_adds(model, [batch]) < 100 * backbone.total


def test_a_prediction_that_fails_is_named():
    assert multiply_adds(build().eval(), [dict(inputs=[], data_samples=[])]).endswith('Error')


def test_a_test_that_was_killed_is_repeated(tmp_path):
    run = tmp_path / '1/vis_data'
    run.mkdir(parents=True)
    (run / 'config.py').write_text('train_cfg = dict(max_epochs=3)')
    (run / 'scalars.json').write_text(''.join(json.dumps({'coco/bbox_mAP': epoch / 10, 'step': epoch}) + '\n'
                                              for epoch in (1, 3)))
    outcome = outcome_of(tmp_path)
    assert outcome.validations == {1: {'AP': 0.1}, 3: {'AP': 0.3}} and outcome.metrics == {'AP': 0.3}
    results = tmp_path / 'test/2'
    results.mkdir(parents=True)
    (results / '2.json').write_text('{"coco/bbox_mAP": 0.')
    assert with_test(tmp_path, outcome) is None
    (tmp_path / 'test/3').mkdir()
    (tmp_path / 'test/3/3.json').write_text(json.dumps({'coco/bbox_mAP': 0.25, 'time': 1.0}))
    result = with_test(tmp_path, outcome)
    assert result.metrics == {'AP': 0.25} and result.validations == outcome.validations


STUDY = '''
study = dict(seeds=[0], report='test', minutes={minutes}, shares=[0.5], variants=[
    dict(name='plain', config='plain.py'), dict(name='Mask R-CNN', config='rcnn.py')])
'''
CONFIG = '''
_base_ = {base!r}
data = {data!r}
model = dict(backbone=dict(base_channels=4, stem_channels=4), neck=dict(in_channels=[4, 8, 16, 32]))
train_dataloader = dict(batch_size=1, dataset=dict(data_root=data))
val_dataloader = dict(dataset=dict(data_root=data))
val_evaluator = dict(ann_file=data + 'annotations/val.json')
# The images of the training, as another data set.
test_dataloader = dict(dataset=dict(
    data_root=data, ann_file='annotations/train.json', data_prefix=dict(img='train/')))
test_evaluator = dict(ann_file=data + 'annotations/train.json')
default_hooks = dict(logger=dict(interval=1))
'''


def rows_of(path):
    with open(path.with_suffix('.csv'), newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_detectors_in_equal_time(call, refused, folder, tmp_path):
    bases = dict(plain='deqdet/deqdet_digits_mask-local.py', rcnn='peers/mask_rcnn_digits.py')
    for name, base in bases.items():
        (tmp_path / f'{name}.py').write_text(CONFIG.format(base=str(ROOT / 'configs' / base),
                                                           data=f'{folder}/data/'))
    out, study = tmp_path / 'out', tmp_path / 'study.py'
    study.write_text(STUDY.format(minutes=0.0001))  # one epoch of 4 images
    call('analysis/study.py', study, '--out', out)
    for row in rows_of(out / 'study'):
        assert row['epochs'] == '1' and row['AP, val'] and row['from equal time'].startswith('+')
    assert 'Data: train, ' in (out / 'study.md').read_text()
    shares = rows_of(out / 'shares')
    assert [(row['variant'], row['share'], row['epochs']) for row in shares] == [
        ('plain', '0.5', '2'), ('plain', '1', '1'), ('Mask R-CNN', '0.5', '2'), ('Mask R-CNN', '1', '1')]
    half, = out.glob('plain/share0.5/seed0/*/*.log')
    assert '[1][2/2]' in half.read_text() and '[2][2/2]' in half.read_text(), 'two epochs of two images'
    costs = rows_of(out / 'costs')
    assert [float(row['GFLOPs']) > 0 and float(row['parameters M']) > 0 for row in costs] == [True, True]
    measured = json.loads((out / 'steps.json').read_text())
    assert {step['batches'] for step in measured['variants'].values()} == {4}
    assert measured['surroundings']['date'] and measured['surroundings']['processor']
    found = json.loads((out / 'plain/seed0/detections_test.bbox.json').read_text())
    assert {entry['image_id'] for entry in found} == {1, 2, 3, 4}

    stamps = {path: path.stat().st_mtime_ns for path in [*out.rglob('*.pth'), *out.rglob('*.json')]}
    call('analysis/study.py', study, '--out', out)
    call('analysis/study.py', study, '--out', out, '--no-training')
    assert stamps == {path: path.stat().st_mtime_ns for path in [*out.rglob('*.pth'), *out.rglob('*.json')]}
    assert rows_of(out / 'costs') == costs

    study.write_text(STUDY.format(minutes=100))
    line = refused('analysis/study.py', study, '--out', out)
    assert says(line, 'plain/seed0 ... max_epochs=1, ... --out ... [output-exists]')
