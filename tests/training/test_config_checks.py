"""Invalid settings are reported before anything is built."""

import numpy as np
import pytest
from data.tiny_coco import NO_PRETRAINED, write_config, write_dataset
from deqdet.training.config_checks import check_config
from mmengine.config import Config
from refusals import refused
from small_model import DEMO_CONFIG, ROOT, build, small_config, small_sparse_config


@pytest.fixture
def cfg():
    return Config.fromfile(str(DEMO_CONFIG))


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').rglob('*.py')), ids=lambda path: path.stem)
def test_every_config_of_the_repository_passes(path):
    if path.parent.name != 'studies' and '_base_' not in path.parts:
        check_config(Config.fromfile(str(path)))


@pytest.mark.parametrize('key, value, words', [
    ('train_dataloader.batch_size', 0, ['1']),
    ('val_dataloader.batch_size', '2', ['1']),
    ('train_dataloader.batch_size', True, ['1', 'whole']),
    ('train_dataloader.num_workers', -1, ['0']),
    ('train_dataloader', 3, ['dict']),
    ('load_from', ['run', '2/epoch_1.pth'], ['string', "'a,b.pth'"]),
    ('train_dataloader.dataset.indices', 0, ['None']),
    ('test_dataloader.dataset.indices', [], ['None']),
    ('val_dataloader.dataset.indices', 'all', ['None']),
    ('train_cfg.max_epochs', 0, ['1']),
    ('train_cfg.val_interval', -1, ['1', 'max_epochs']),
    ('randomness.seed', -1, ['0 to 4294967295']),
    ('randomness.seed', 2**32, ['0 to 4294967295']),
    ('optim_wrapper.optimizer.lr', float('nan'), ['0']),
    ('optim_wrapper.optimizer.lr', '1e-4', ['0']),
    ('optim_wrapper.accumulative_counts', 0, ['1']),
    ('optim_wrapper.clip_grad.max_norm', -1, ['0']),
    ('param_scheduler.1.T_max', 'x', ['number']),
    ('train_dataloader.dataset.data_root', True, ['string']),
    ('model.roi_head.bbox_head.0.loss_cls.loss_weight', None, ['number']),
    ('default_hooks.logger.interval', 0, ['1', '-1']),
    ('default_hooks.checkpoint.interval', 1.5, ['1', '-1']),
])
def test_what_cannot_work(cfg, key, value, words):
    with refused('bad-setting', f'{key}={value!r}', *words):
        check_config(changed(cfg, key, value))


@pytest.mark.parametrize('key, value, code, words', [
    ('train_dataloader.persistent_workers', True, 'settings-mismatch', ['train_dataloader.num_workers=1']),
    ('randomness.sed', 1, 'unknown-setting', ['randomness', "'sed'", 'seed, ']),
    ('default_hooks.checkpoint.max_keep_ckpst', 1, 'unknown-setting', ["'max_keep_ckpst'", 'max_keep_ckpts']),
    ('default_hooks.checkpiont', dict(interval=3), 'bad-config', ['default_hooks.checkpiont', 'checkpoint']),
    ('val_dataloader', dict(datset={}), 'bad-config', ['val_dataloader', 'dataset', 'datset']),
])
def test_typos_and_settings_that_do_not_fit(cfg, key, value, code, words):
    with refused(code, *words):
        check_config(changed(cfg, key, value))


def changed(cfg, key, value):
    owner, (*names, last) = cfg, key.split('.')
    for name in names:
        owner = owner[int(name) if name.isdigit() else name]
    owner[last] = value
    return cfg


def test_a_typo_in_a_key_that_is_needed(cfg):
    cfg.trian_dataloader = cfg.pop('train_dataloader')
    with refused('unknown-setting', 'trian_dataloader', 'train_dataloader'):
        check_config(cfg)


def test_what_works_is_let_through(cfg):
    cfg.merge_from_dict({
        'default_hooks.checkpoint.interval': -1, 'train_dataloader.dataset.indices': -3,
        'randomness.seed': None, 'val_dataloader.dataset.indices': [0, 2],
        'optim_wrapper.clip_grad': None, 'train_cfg.val_begin': 0,
        'train_dataloaders_of_mine': dict(batch_size=0)})
    cfg.weights = np.ones(3), 10 ** 400
    check_config(cfg)


@pytest.mark.parametrize('config', [small_config, small_sparse_config])
@pytest.mark.parametrize('part, key, words', [
    ('test_cfg', 'tolerence', ['test_cfg.rcnn', "'tolerence'", 'tolerance', 'max_per_img']),
    ('test_cfg', 'max_per_image', ["'max_per_image'", 'max_per_img']),
    ('train_cfg', 'asigner', ['train_cfg.rcnn.0', "'asigner'", 'assigner']),
    ('test_cfg', 'something', ['test_cfg.rcnn', "'something'", 'max_per_img']),
])
def test_settings_of_a_head_that_nobody_reads(config, part, key, words):
    config = config()
    rcnn = config[part].rcnn
    (rcnn[0] if isinstance(rcnn, list) else rcnn)[key] = 1
    with refused('unknown-setting', *words):
        build(config)


def test_the_steps_of_prediction_misspelt():
    config = small_config()
    config.test_cfg.rcnn.refinement_step = 4
    with refused('unknown-setting', "'refinement_step'", 'refinement_steps'):
        build(config)
    config = small_config()
    config.test_cfg.rcn = dict(refinement_steps=4)
    with refused('unknown-setting', 'model.test_cfg', "'rcn'", 'rcnn'):
        build(config)


@pytest.mark.parametrize('config', [small_config, small_sparse_config])
def test_what_other_heads_of_mmdet_read_is_legal(config):
    config = config()
    config.test_cfg.rcnn.update(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5))
    config.train_cfg.rpn_proposal = dict(nms_pre=2000)
    build(config)


@pytest.mark.parametrize('option, words', [
    ('train_dataloader.batchsize=2', ["'batchsize'"]),
    ('train_dataloader.sampler.type=DefaultSample', ["'DefaultSample'", 'custom_imports']),
    ('model.bbox_head.anchor_generator.strides=16', ['AnchorGenerator']),
    ('model.backbone.depth=19', ['ResNet', "KeyError: 'invalid depth 19"]),
    ('train_cfg.by_epoch=3', ['train_loop', 'RuntimeError: Only one of']),
    ('optim_wrapper.optimizer.betas=3', ['SGD']),
    ('optim_wrapper.optimizer.type=Sgd', ["'Sgd'", '[unknown-type]']),
    ('train_dataloader.dataset.pipeline=3', ['train_dataloader.dataset.pipeline=3', '[bad-setting]']),
    ('val_evaluator.metric=AP', ['CocoMetric']),
    ('visualizer.vis_backends=3', ['DetLocalVisualizer']),
    ('model.backbone.init_cfg.checkpoint.file=3', ['--cfg-options']),
    ('trian_cfg.max_epochs=3', ['trian_cfg', 'train_cfg']),
    ('default_hooks.checkpiont.interval=3', ['default_hooks.checkpiont', 'checkpoint', '[bad-config]']),
])
def test_what_building_says_is_one_line(refused, tmp_path, option, words):
    # Runs with the same name within one second would share their log.
    config = write_config(tmp_path / f'{tmp_path.name}.py', write_dataset(tmp_path / 'data'))
    more = [NO_PRETRAINED] if 'init_cfg' not in option else []
    line = refused('train.py', config, '--cfg-options', *more, option)
    assert not [word for word in words if word not in line] and len(line) < 500


def test_the_traceback_may_be_had(call, tmp_path, monkeypatch):
    config = write_config(tmp_path / f'{tmp_path.name}.py', write_dataset(tmp_path / 'data'))
    monkeypatch.setenv('DEQDET_TRACEBACK', '1')
    with pytest.raises(KeyError, match='invalid depth 19'):
        call('train.py', config, '--cfg-options', NO_PRETRAINED, 'model.backbone.depth=19')
