"""Studies: which variants are trained or skipped, and the table."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from deqdet.analysis import outcome_of, read_study, summary
from deqdet.analysis.intervals import Matched, bootstrap, interval_rows
from deqdet.analysis.study import Outcome, Variant
from deqdet.analysis.study.plan import jobs_of, settings_of
from refusals import says
from small_model import DEMO_CONFIG, ROOT

NUCLEI = ROOT / 'configs/deqdet/deqdet_nuclei_mask-local.py'
STUDY = '''
study = dict(seeds=[0, 1], variants=[
    dict(name='plain', config={config!r}),
    dict(name='rag = 1, Omega = {{1, 2}}', config={config!r}, options={{
        'model.roi_head.rag': 1, 'model.roi_head.supervision_position': [1, 2],
        'model.roi_head.refinement_steps': 2}})])
'''


@pytest.mark.slow
def test_two_variants_of_two_seeds(call, folder, tmp_path, capsys):
    study = tmp_path / 'two.py'
    study.write_text(STUDY.format(config=str(folder / 'small.py')))
    words = ['analysis/study.py', study, '--out', tmp_path / 'out', '--cfg-options', 'train_cfg.max_epochs=1',
             'train_cfg.val_interval=1', 'default_hooks.logger.interval=1']
    call(*words, '--only', 'plain')
    with open(tmp_path / 'out' / 'study.csv', newline='') as file:
        row, = csv.DictReader(file)
    assert (row['variant'], row['seeds'], row['epochs']) == ('plain', '2', '1')

    finished = sorted((tmp_path / 'out').glob('plain/*/*.pth'))
    stamps = [path.stat().st_mtime_ns for path in finished]
    call(*words)
    assert [path.stat().st_mtime_ns for path in finished] == stamps, 'finished trainings are left alone'
    with open(tmp_path / 'out' / 'study.csv', newline='') as file:
        plain, other = csv.DictReader(file)
    assert other['variant'] == 'rag = 1, Omega = {1, 2}' and other['seeds'] == '2'
    assert 0 <= float(other['AP']) <= 1 and float(other['minutes']) > 0
    assert (tmp_path / 'out' / 'study.png').stat().st_size > 3000

    path, = (tmp_path / 'out/rag-1-omega-1-2/seed1').glob('*/*.log')
    log = path.read_text()
    assert 'iter2_loss_cls' in log and 'iter3_loss_cls' not in log, 'the options reached the training'
    outcome = outcome_of(tmp_path / 'out/plain/seed0')
    assert outcome.epochs == 1 and set(outcome.metrics) >= {'AP', 'AP50', 'APs'}
    with open(tmp_path / 'out' / 'intervals.csv', newline='') as file:
        rows = {(row['variant'], row['metric']): row for row in csv.DictReader(file)}
    mean = sum(outcome_of(tmp_path / f'out/plain/seed{seed}').metrics['AP'] for seed in (0, 1)) / 2
    assert float(rows['plain', 'AP']['value']) == pytest.approx(mean, abs=1e-3)  # mmdet rounds to 0.001
    assert rows['rag = 1, Omega = {1, 2}', 'AP50']['noise'] in ('yes', 'no')
    with open(tmp_path / 'out' / 'costs.csv', newline='') as file:
        plain, other = csv.DictReader(file)  # the second was measured later
    assert plain['parameters M'] == other['parameters M'] and float(plain['GFLOPs']) > float(other['GFLOPs'])
    times = ('image ms', 'step ms', 'memory GB')
    assert all(float(row[name]) > 0 for row in (plain, other) for name in times)


def test_time_of_a_training_that_was_resumed(tmp_path):
    """The second run continued at iteration 10 and repeated what the first had done after that."""
    runs = dict(a=[(10, 0.5), (20, 0.5)], b=[(20, 1.0), (30, 1.0)])
    for run, records in runs.items():
        (tmp_path / run / 'vis_data').mkdir(parents=True)
        (tmp_path / run / 'vis_data/config.py').write_text('train_cfg = dict(max_epochs=3)')
        lines = [json.dumps({'loss': 1.0, 'iter': step, 'time': seconds}) for step, seconds in records]
        (tmp_path / run / 'vis_data/scalars.json').write_text('\n'.join(lines) + '\n')
    assert outcome_of(tmp_path) is None, 'no last validation yet'
    with open(tmp_path / 'b/vis_data/scalars.json', 'a') as file:
        file.write(json.dumps({'coco/bbox_mAP': 0.5, 'coco/segm_mAP': 0.25, 'coco/segm_mAP_75': 0.125,
                               'step': 3, 'time': 9.0}) + '\n')
    outcome = outcome_of(tmp_path)
    assert outcome.metrics == {'AP': 0.5, 'mask AP': 0.25, 'mask AP75': 0.125}
    assert outcome.minutes == pytest.approx((10 * 0.5 + 20 * 1.0) / 60)


def test_the_table_has_the_masks_of_each_seed():
    outcomes = {Variant(name='plain', config=None): [
        Outcome({'AP': value, 'mask AP': value / 2}, minutes=1.0, epochs=3) for value in (0.5, 0.75)]}
    row, = summary(outcomes)
    assert row['AP'] == 0.625 and row['AP by seed'] == '0.500 0.750'
    assert row['mask AP'] == 0.3125 and row['mask AP by seed'] == '0.250 0.375'


def evaluated(folder, hits):
    """Detections of one object in each image: exact where ``hits`` is 1, missed where it is 0."""
    box = [10., 10., 20., 20.]
    folder.mkdir()
    (folder / 'truth.json').write_text(json.dumps(dict(
        images=[dict(id=n, width=64, height=64) for n in range(len(hits))], categories=[dict(id=1, name='a')],
        annotations=[dict(id=n + 1, image_id=n, category_id=1, bbox=box, area=400., iscrowd=0)
                     for n in range(len(hits))])))
    (folder / 'found.json').write_text(json.dumps(
        [dict(image_id=n, category_id=1, bbox=box, score=0.5) for n, hit in enumerate(hits) if hit]))
    return Matched(folder / 'truth.json', folder / 'found.json', 'bbox')


def test_ap_of_samples_of_images(tmp_path):
    half = evaluated(tmp_path / 'half', [1, 0])
    assert half.ap(np.array([0, 0])) == [1, 1] and half.ap(np.array([1, 1])) == [0, 0]
    assert half.ap(np.array([0, 1])) == pytest.approx([51 / 101] * 2)  # recalls 0, 0.01 to 0.5
    assert evaluated(tmp_path / 'none', [0, 0]).ap(np.array([0, 1])) == [0, 0], 'no detections at all'


def test_intervals_and_paired_differences(tmp_path):
    """A variant that finds what the first finds, and more: images differ much, the difference little."""
    worse, better = [1, 0, 0] * 20, [1, 0, 1] * 20
    trainings = {name: {seed: dict(bbox=evaluated(tmp_path / f'{name}{seed}', hits)) for seed in (0, 1)}
                 for name, hits in dict(first=worse, same=worse, better=better).items()}
    rows = {row['variant']: row for row in interval_rows(trainings) if row['metric'] == 'AP50'}
    # 60 draws with a share of 1/3: a standard deviation of 0.061.
    first = rows['first']
    assert first['low'] < first['value'] < first['high'] and not first['noise']
    assert first['high'] - first['low'] == pytest.approx(4 * 0.061, abs=0.06)
    assert (rows['same']['from'], rows['same']['to'], rows['same']['noise']) == (0, 0, 'yes')
    assert rows['better']['from'] > 0.15 and rows['better']['noise'] == 'no'
    assert rows['better']['difference'] == rows['better']['value'] - rows['first']['value']


def test_training_seeds_belong_to_the_sample(tmp_path):
    seeds = {0: evaluated(tmp_path / 'good', [1] * 4), 1: evaluated(tmp_path / 'bad', [0] * 4)}
    values = bootstrap({'a': seeds}, draws=100)['a'][:, 0]
    assert set(values) == {0, 0.5, 1} and values[0] == 0.5


STUDIES = sorted((ROOT / 'configs' / 'studies').glob('*.py'))


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_the_studies_here_build(path):
    """The config has every option of every variant."""
    from mmdet.registry import MODELS
    study = read_study(str(path))
    assert len(study.variants) > 1 and study.seeds
    seen = []
    for job in jobs_of(study, Path('out'))[:len(study.variants)]:
        config = job.variant.read()
        steps = {job.variant.name: dict(seconds=0.25, batches=100)}
        config.merge_from_dict(settings_of(study, job, steps, [], workers=1))
        MODELS.build(config.model)
        assert config.param_scheduler[1].end == config.train_cfg.max_epochs
        assert config.train_cfg.max_epochs % config.train_cfg.val_interval == 0
        seen.append(config.dump())
    assert len(set(seen)) == len(seen), 'no two variants are the same'


@pytest.mark.parametrize('text, message', [
    ('x = 1', 'study.py ... study=dict ... [bad-config]'),
    ("study = dict(seeds=[0], variants=[dict(name='a', config='nowhere.py')])",
     "study.py ... nowhere.py ... 'a' ... [missing-file]"),
    ("study = dict(seeds=[0], variants=[dict(name=name, config='study.py') for name in ('A b', 'a-b', 'c')])",
     "study.py ... 'A b', a-b ... [bad-config]"),
    ("study = dict(seeds=[0], minute=3, variants=[dict(name='a', config='study.py')])",
     "study.py ... 'minute' ... seeds, variants, report, minutes, shares [unknown-setting]"),
    ("study = dict(seeds=[0], variants=[dict(name='a', config='study.py', epoch=3)])",
     "study.py ... 'a' ... 'epoch' ... [unknown-setting]"),
    ("study = dict(seeds=[0], minutes=3, variants=[dict(name='a', config='study.py', epochs=3)])",
     'study.py ... minutes ... epochs ... [bad-config]'),
    ("study = dict(seeds=[0], shares=[50], variants=[dict(name='a', config='study.py')])",
     'study.py ... shares ... at most 1 [bad-config]'),
    (f"study = dict(seeds=[0], report='test', variants=[dict(name='a', config={str(NUCLEI)!r})])",
     "study.py ... report='test' ... data/nuclei/annotations/val.json ... [settings-mismatch]"),
    ('study = dict(', 'study.py ... SyntaxError ... [bad-config]'),
    ("study = dict(seed=[0], variants=[])", "study.py ... 'seed' ... 'seeds' ... [unknown-setting]"),
    ('study = dict(seeds=3, variants=[])', 'study.py ... seeds=3 ... list ... [bad-config]'),
    ("study = dict(seeds=[1, 1], variants=[])", 'study.py ... seeds=[1, 1] ... different ... [bad-config]'),
    ("study = dict(seeds=[0], variants=['study.py'])", 'study.py ... variants[0] ... [bad-config]'),
    ("study = dict(seeds=[0], variants=[dict(name='a')])", "study.py ... 'a' ... 'config' ... [bad-config]"),
    ("study = dict(seeds=[0], variants=[dict(name='', config='study.py')])", "name='' ... [bad-config]"),
    ("study = dict(seeds=[0], variants=[dict(name='a', config='study.py', epochs='3')])",
     "'a' ... epochs='3' ... [bad-config]"),
    ("study = dict(seeds=[0], variants=[dict(name='a', config='study.py', options=['x=1'])])",
     "'a' ... options=['x=1'] ... [bad-config]"),
    ("study = dict(seeds=[0], minutes='30', variants=[dict(name='a', config='study.py')])",
     "minutes='30' ... [bad-config]"),
    ("study = dict(seeds=[0], shares=0.5, variants=[dict(name='a', config='study.py')])",
     'shares=0.5 ... list ... [bad-config]'),
])
def test_wrong_studies(refused, tmp_path, text, message):
    (tmp_path / 'study.py').write_text(text)
    assert says(refused('analysis/study.py', 'study.py'), message)


@pytest.mark.parametrize('config, options, more, message', [
    (DEMO_CONFIG, {'model.roi_head.refinment_steps': 3}, '', "'b' ... refinment_steps ... [unknown-setting]"),
    (DEMO_CONFIG, {'model.backbone.type': 'ResNat'}, '', "'b' ... 'ResNat' ... [unknown-type]"),
    (DEMO_CONFIG, {'train_cfg.max_epochs': 'x'}, '', "'b' ... train_cfg.max_epochs='x' ... [bad-setting]"),
    (ROOT / 'configs/deqdet/deqdet_r50_1x_coco.py', {}, 'shares=[0.5],',
     "'b' ... MultiStepLR ... [settings-mismatch]"),
    (DEMO_CONFIG, {'train_dataloader.dataset.data_root': '/nowhere/'}, 'shares=[0.5],',
     "'b' ... /nowhere/annotations/train.json ... [missing-file]"),
])
def test_a_later_variant_that_cannot_train_stops_the_study_at_once(refused, tmp_path, config, options, more,
                                                                   message):
    (tmp_path / 'study.py').write_text(
        f"study = dict(seeds=[0], {more} variants=[dict(name='a', config={str(DEMO_CONFIG)!r}),"
        f"dict(name='b', config={str(config)!r}, options={options!r})])")
    words = ['--only', 'b'] if more else []
    assert says(refused('analysis/study.py', 'study.py', '--out', 'out', *words), message)
    assert not (tmp_path / 'out').exists(), 'no training was started'
