"""The tables of the tools: the row of N steps has the results of a test with N steps."""

import csv
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from refusals import says


@pytest.fixture
def tables(call, folder, tmp_path):
    """Call a tool of tools/analysis on the small config; returns its results folder."""

    def tables(tool, *words, config=folder / 'small.py'):
        call(f'analysis/{tool}', config, *words, '--out', tmp_path / 'out')
        return tmp_path / 'out'

    return tables


def read(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def metrics_of(folder, work_dir, **settings):
    """Metrics of a test as tools/test.py runs it."""
    cfg = Config.fromfile(str(folder / 'small.py'))
    cfg.work_dir, cfg.load_from = str(work_dir), str(folder / 'model.pth')
    cfg.model.test_cfg.rcnn.update(settings)
    return Runner.from_cfg(cfg).test()


def test_steps_of_both_solvers(tables, folder, tmp_path):
    out = tables('refinement_steps.py', folder / 'model.pth', '--refinements', 0, 1, 2, 4, '--solvers',
               'iterate', 'anderson:memory=2', '--tolerance', 'position=1e9', '--steps', 3)
    rows = {(row['solver'], row['stop'], float(row['refinements'])): row
            for row in read(out / 'refinement_steps.csv')}
    assert len(rows) == 2 * 5
    assert len({row['box'] for row in rows.values()}) == 4 + 1  # Anderson differs only at the fourth step
    for solver, config in (('iterate', dict(type='iterate')), ('anderson:memory=2', dict(
            type='anderson', memory=2))):
        expected = metrics_of(folder, tmp_path, solver=config, refinement_steps=3)
        row = rows[solver, 'steps', 4.0]
        for name in ('score', 'box'):
            assert float(row[name]) == pytest.approx(expected[f'detection/{name}'], rel=1e-4)
        # With such a wide limit the solver stops after one step, and one refinement follows.
        for name in ('score', 'box'):
            assert float(rows[solver, 'tolerance', 2.0][name]) == pytest.approx(
                float(rows[solver, 'steps', 2.0][name]))
    plain = [rows['iterate', 'steps', count] for count in (0.0, 1.0, 2.0, 4.0)]
    costs = [float(row['GFLOPs']) for row in plain]
    assert costs[3] - costs[2] == pytest.approx(2 * (costs[1] - costs[0])) and costs[1] > costs[0]
    assert (out / 'refinement_steps.png').stat().st_size > 5000
    assert (out / 'refinement_steps.md').read_text().count('\n') == 2 + len(rows)


def test_masks_by_steps(tables, folder, tmp_path):
    """Masks of y_0 come from the first mask head, all others from the last one."""
    masked = tmp_path / 'masked.py'
    masked.write_text(f'_base_ = {str(folder / "small.py")!r}\n'
                      "head = dict(type='DeCoupleHead', embed_dim=64)\n"
                      'model = dict(roi_head=dict(mask_head=[head, head]), '
                      'train_cfg=dict(rcnn=[dict(**_base_.matching)]))\n'
                      "test_evaluator = dict(type='MeanMask')\n")
    state = torch.load(folder / 'model.pth')['state_dict']
    for number, bias in ((0, 100.0), (1, -100.0)):  # everything or nothing belongs to an object
        prefix = f'roi_head.mask_head.{number}.mask_embed.0'
        state[f'{prefix}.weight'], state[f'{prefix}.bias'] = torch.zeros(64, 64), torch.full((64, ), bias)
    state['neck.gn_out.weight'], state['neck.gn_out.bias'] = torch.zeros(64), torch.ones(64)
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'masked.pth')
    out = tables('refinement_steps.py', tmp_path / 'masked.pth', '--refinements', 0, 1, 2, '--tolerance',
                 'position=1e9', '--steps', 1, config=masked)
    areas = {(row['stop'], float(row['refinements'])): float(row['area'])
             for row in read(out / 'refinement_steps.csv')}
    assert areas == {('steps', 0.0): 1, ('steps', 1.0): 0, ('steps', 2.0): 0, ('tolerance', 2.0): 0}


def test_convergence(tables, folder):
    out = tables('convergence.py', folder / 'model.pth', '--refinements', 6, '--images', 3)
    rows = read(out / 'convergence.csv')
    assert len(rows) == 6 * 2 * 2  # iterations, parts, kinds
    for row in rows:
        low, median, mean, high = (float(row[key]) for key in ('p10', 'median', 'mean', 'p90'))
        assert 0 <= low <= median <= high and mean > 0
    assert (out / 'convergence.png').stat().st_size > 5000


def test_complexity_of_a_config(tables):
    out = tables('complexity.py', '--shape', 64, 96, '--refinements', 0, 3)
    rows = {row['part']: row for row in read(out / 'complexity.csv')}
    assert (out / 'complexity.png').stat().st_size > 5000
    first, last = read(out / 'complexity_by_refinements.csv')
    once = sum(float(rows[part]['total']) for part in ('backbone', 'neck', 'initialisation'))
    assert float(first['total']) == pytest.approx(once)
    assert float(last['total']) == pytest.approx(once + 3 * float(rows['refinement']['total']))


@pytest.mark.slow
def test_benchmark_of_a_prediction(tables, folder):
    out = tables('benchmark.py', folder / 'model.pth', '--data', 3, '--images', 2, '--rounds', 1,
                 '--threads', 1, '--steps', 9, '--forms', 'reference', 'float32', '--tolerance',
                 'position=1e9')
    rows = read(out / 'benchmark.csv')
    assert [row['form'] for row in rows] == ['reference', 'float32', 'float32, tolerance']
    for row in rows:
        parts = [float(row[f'{part} ms']) for part in
                 ('prepare', 'initialise', 'solve', 'last refinement', 'select')]
        assert min(parts) > 0 and float(row['decoder ms']) == pytest.approx(sum(parts))
        assert float(row['decoder ratio']) == pytest.approx(
            float(row['decoder ms']) / float(rows[0]['decoder ms']))
        # One batch of two images, one batch of one.
        assert float(row['images/s']) == pytest.approx(1.5 / (float(row['all ms']) / 1000))
        assert 0.1 < float(row['peak GB']) < 2
    # One step instead of nine.
    assert float(rows[2]['solve ms']) < 0.5 * float(rows[1]['solve ms'])
    found = json.loads((out / 'benchmark.json').read_text())
    assert found['surroundings']['threads'] == 1 and len(found['rows']) == 3


def test_benchmark_by_size_of_training(tables):
    out = tables('benchmark.py', '--training', '--rounds', 1, '--threads', 1, '--no-memory',
                 '--shape', 64, 64, '--shape', 64, 96, '--queries', 4, 8, '--steps', 3,
                 '--forms', 'plain graph')
    rows = read(out / 'benchmark.csv')
    assert [(row['size'], row['queries']) for row in rows] == [
        ('64x64', '4'), ('64x64', '8'), ('64x96', '4'), ('64x96', '8')]
    assert all(float(row['all ms']) == float(row['step ms']) > 0 for row in rows)
    assert (out / 'benchmark.png').stat().st_size > 5000


@pytest.mark.parametrize('tool, words, message', [
    ('refinement_steps.py', ['MODEL', '--solvers', 'newton'],
     "--solvers: ... 'newton' ... [unknown-type]"),
    ('refinement_steps.py', ['MODEL', '--solvers', 'anderson:m=2'], "anderson has no argument 'm'"),
    ('refinement_steps.py', ['MODEL', '--tolerance', 'content=small'], '--tolerance: content=small '),
    ('refinement_steps.py', ['MODEL', '--tolerance', 'size=1'],
     "--tolerance ... 'size' ... content, position [unknown-setting]"),
    ('convergence.py', ['nowhere.pth'], 'nowhere.pth '),
    ('complexity.py', ['--shape', '8', '8'], '--shape 8: ... 32 ... [bad-argument]'),
    ('complexity.py', ['--refinements', '-1'], '--refinements -1: ... [bad-argument]'),
    ('convergence.py', ['MODEL', '--out', __file__], f'{__file__} ... --out ... [output-failed]'),
    ('convergence.py', ['MODEL', '--cfg-options', 'model.test_cfg.rcnn.solver=anderson'],
     "test_cfg.rcnn.solver='anderson' must be a dict with a type"),
    ('convergence.py', ['MODEL', '--cfg-options', 'model.test_cfg.rcnn.solver.memory=2'],
     'the type is missing'),
    ('convergence.py', ['MODEL', '--cfg-options', 'model.test_cfg.rcnn.tolerance=0.2'],
     'test_cfg.rcnn.tolerance=0.2 ... content, position [bad-setting]'),
    ('convergence.py', ['MODEL', '--cfg-options', 'test_evaluator.type=CocoSubmissionMetric'],
     'val2017 ... [bad-config]'),
    ('benchmark.py', ['--forms', 'fast'], "--forms 'fast': ... 'reference', 'float32' ... [bad-argument]"),
    ('benchmark.py', ['--shape', '64', '64', '--tolerance', 'size=1'],
     "--tolerance ... 'size' ... content, position [unknown-setting]"),
    pytest.param('benchmark.py', ['--device', 'cuda'], '--device cuda ... [no-device]',
                 marks=pytest.mark.skipif(torch.cuda.is_available(), reason='there is one')),
], ids=str)
def test_one_line_says_what_is_wrong(refused, folder, tool, words, message):
    words = [folder / 'model.pth' if word == 'MODEL' else word for word in words]
    assert says(refused(f'analysis/{tool}', folder / 'small.py', *words), message)


def test_config_and_checkpoint_swapped(refused, folder):
    line = refused('analysis/convergence.py', folder / 'model.pth', folder / 'small.py')
    assert 'model.pth ' in line and line.endswith(' [bad-config]')


def test_a_stacked_decoder_solves_nothing(refused, folder, tmp_path):
    config = tmp_path / 'stacked.py'
    config.write_text(f'_base_ = {str(folder / "small.py")!r}\n'
                      "model = dict(roi_head=dict(_delete_=True, type='FFNDetRoIHead', num_stages=2, "
                      'featmap_strides=[4, 8, 16, 32], bbox_head=[_base_.layer, _base_.layer]))\n')
    line = refused('analysis/convergence.py', config, folder / 'model.pth')
    assert 'FFNDetRoIHead' in line and line.endswith(' [unsupported-decoder]')
