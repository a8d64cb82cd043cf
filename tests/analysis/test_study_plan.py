"""What a study sets in each training: epochs, validations, images."""

import json
import math
from pathlib import Path

import pytest
from deqdet.analysis.study import Study, Variant
from deqdet.analysis.study.plan import Job, settings_of
from deqdet.analysis.study.schedule import (
    MARKS,
    epochs_in,
    evaluated_near,
    interval_of,
    schedule_options,
)
from deqdet.analysis.study.shares import first_of
from deqdet.analysis.study.variants import words_of
from deqdet.launching.options import read_option
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from refusals import refused
from small_model import DEMO_CONFIG, ROOT

CONFIGS = ('deqdet/deqdet_digits.py', 'deqdet/deqdet_trees_lite0.py', 'deqdet/deqdet_nuclei_mask-local.py',
           'peers/queryinst_digits.py')


@pytest.mark.parametrize('name', CONFIGS)
def test_a_longer_schedule(name):
    """The rate falls to zero at the new end, and the warm-up stays."""
    config = Config.fromfile(str(ROOT / 'configs' / name))
    warm_up = dict(config.param_scheduler[0])
    config.merge_from_dict(schedule_options(config, 30, interval=7, name=name))
    cosine = config.param_scheduler[1]
    assert config.train_cfg.max_epochs == cosine.end == cosine.T_max == 30
    assert config.train_cfg.val_interval == 7 and config.param_scheduler[0] == warm_up


@pytest.mark.parametrize('options, part', [
    ({'param_scheduler.1.T_max': 4}, 'param_scheduler.1'),
    ({'param_scheduler.1.type': 'StepLR'}, 'param_scheduler.1 (StepLR)'),
    ({'param_scheduler.0.type': 'CosineAnnealingLR'}, 'param_scheduler.0'),
    ({'train_cfg.val_begin': 3}, 'train_cfg'),
    ({'custom_hooks': [dict(type='PipelineSwitchHook', switch_epoch=6)]}, 'switch_epoch'),
])
def test_schedules_of_another_form(options, part):
    config = Config.fromfile(str(DEMO_CONFIG))
    config.merge_from_dict(options)
    with refused('settings-mismatch', 'digits', part, 'schedule_digits.py'):
        schedule_options(config, 3, interval=3, name='digits')


def test_the_published_schedule_is_refused():
    config = Config.fromfile(str(ROOT / 'configs/deqdet/deqdet_r50_1x_coco.py'))
    with refused('settings-mismatch', 'MultiStepLR'):
        schedule_options(config, 3, interval=3, name='coco')


@given(st.integers(2, 200))
def test_validations_are_near_the_marks(epochs):
    interval = interval_of(epochs)
    evaluated = tuple(epoch for epoch in range(1, epochs + 1) if epoch % interval == 0 or epoch == epochs)
    for mark in MARKS.values():
        found = evaluated_near(epochs, evaluated, mark)
        assert abs(found - mark * epochs) <= 0.5
        assert mark == 1 or found < epochs


def test_few_validations_if_epochs_divide():
    assert [interval_of(epochs) for epochs in (1, 2, 4, 8, 9, 20, 200)] == [1, 1, 1, 2, 2, 5, 50]
    assert evaluated_near(20, (20, ), 0.25) == 0, 'the last validation says nothing about the first quarter'
    assert evaluated_near(1, (1, ), 0.5) == 0


@given(st.floats(0.1, 1000), st.floats(0.001, 10), st.integers(1, 1000))
def test_whole_epochs_are_near_the_time(minutes, seconds, batches):
    epoch = seconds * batches / 60
    assert abs(epochs_in(minutes, seconds=seconds, batches=batches) * epoch - minutes) <= max(
        epoch * (0.5 + 1e-9), epoch - minutes)


@given(st.integers(1, 300), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_smaller_share_is_a_part_of_a_larger_one(count, one, other):
    small, large = (set(first_of(count, share)) for share in sorted((one, other)))
    assert small <= large <= set(range(count))
    assert len(large) == max(1, round(max(one, other) * count))


@pytest.fixture
def words(tmp_path):
    """Options for the digits' config: real annotations of 20 images without pictures; one has no object."""
    box = dict(category_id=1, bbox=[10., 10., 20., 20.], area=400., iscrowd=0)
    (tmp_path / 'train.json').write_text(json.dumps(dict(
        images=[dict(id=n, file_name=f'{n}.png', width=64, height=64) for n in range(21)],
        categories=[dict(id=n, name=str(n)) for n in range(10)],
        annotations=[dict(box, id=n + 1, image_id=n) for n in range(20)])))
    return [f'train_dataloader.dataset.ann_file={tmp_path}/train.json',
            'train_dataloader.dataset.filter_cfg.filter_empty_gt=True']


def study_of(**keys):
    variant = Variant('digits', DEMO_CONFIG, epochs=keys.pop('epochs', None))
    return Study('study.py', [variant], [0], **keys)


def job_of(study, share=1.0):
    return Job(study.variants[0], share, 0, Path('out'))


def test_epochs_of_equal_time(words):
    """4 batches of 2 s: an epoch takes 8 s."""
    study = study_of(minutes=1.0)
    settings = settings_of(study, job_of(study), {'digits': dict(seconds=2.0, batches=4)}, words, workers=1)
    assert settings == {'train_cfg.max_epochs': 8, 'train_cfg.val_interval': 2, 'param_scheduler.1.T_max': 8,
                        'param_scheduler.1.end': 8}
    halved = settings_of(study, job_of(study), {'digits': dict(seconds=2.0, batches=4)}, words, workers=2)
    assert halved['train_cfg.max_epochs'] == 15, 'two workers halve the batches of an epoch'


def test_a_share_of_the_images_has_as_many_iterations(words):
    """20 images in 4 batches of 5, and the quarter in one."""
    study = study_of(shares=[0.25, 1])
    settings = settings_of(study, job_of(study, 0.25), {}, words, workers=1)
    chosen = settings['train_dataloader.dataset.indices']
    assert len(set(chosen)) == 5 and max(chosen) < 20, 'the image without objects does not count'
    assert settings['train_cfg.max_epochs'] == settings['param_scheduler.1.end'] == 8 * 4
    key, _, text = words_of({'train_dataloader.dataset.indices': chosen})[0].partition('=')
    assert read_option(key, text) == chosen, 'they reach the training'
    assert settings_of(study, job_of(study), {}, words, workers=1) == {}, 'all images: as the config says'


def test_options_do_not_replace_what_the_study_sets(words):
    study = study_of(epochs=3)
    assert settings_of(study, job_of(study), {}, words, workers=1)['train_cfg.max_epochs'] == 3
    with refused('bad-argument', 'train_cfg.max_epochs=1'):
        settings_of(study, job_of(study), {}, [*words, 'train_cfg.max_epochs=1'], workers=1)


def test_data_with_indices_have_no_shares(words):
    study = study_of()
    with refused('settings-mismatch', 'digits', 'indices'):
        settings_of(study, job_of(study, 0.5), {}, [*words, 'train_dataloader.dataset.indices=7'], workers=1)


def test_images_of_a_repeated_data_set(words, tmp_path):
    (tmp_path / 'repeated.py').write_text(f'''
_base_ = {str(DEMO_CONFIG)!r}
inner = _base_.train_dataloader.dataset
inner.update(ann_file={str(tmp_path / "train.json")!r})
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=3, dataset=inner))
''')
    study = Study('study.py', [Variant('repeated', tmp_path / 'repeated.py')], [0], shares=[0.5, 1])
    settings = settings_of(study, job_of(study, 0.5), {}, [], workers=1)
    config = Config.fromfile(str(tmp_path / 'repeated.py'))
    config.merge_from_dict(settings)
    from mmdet.registry import DATASETS
    dataset = DATASETS.build({**config.train_dataloader.dataset})
    assert len(dataset) == 3 * round(21 / 2)
    assert settings['train_cfg.max_epochs'] == round(8 * math.ceil(21 / 5) / math.ceil(10 / 5))
