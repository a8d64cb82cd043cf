"""Invalid settings are reported before anything is built."""

import numpy as np
import pytest
from data.tiny_coco import NO_PRETRAINED, write_config, write_dataset
from deqdet import UsageError
from deqdet.training.config_checks import check_config
from mmengine.config import Config
from small_model import DEMO_CONFIG, ROOT, build, small_config, small_sparse_config


@pytest.fixture
def cfg():
    return Config.fromfile(str(DEMO_CONFIG))


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').rglob('*.py')), ids=lambda path: path.stem)
def test_every_config_of_the_repository_passes(path):
    if path.parent.name != 'studies' and '_base_' not in path.parts:
        check_config(Config.fromfile(str(path)))


@pytest.mark.parametrize('key, value, message', [
    ('train_dataloader.batch_size', 0, 'train_dataloader.batch_size=0 must be at least 1'),
    ('val_dataloader.batch_size', '2', "val_dataloader.batch_size='2' must be at least 1"),
    ('train_dataloader.batch_size', True, 'batch_size=True must be at least 1, a whole number'),
    ('train_dataloader.num_workers', -1, 'train_dataloader.num_workers=-1 must be 0 or more'),
    ('train_dataloader.persistent_workers', True, 'set train_dataloader.num_workers=1 or more'),
    ('train_dataloader', 3, 'train_dataloader=3 must be a dict'),
    ('train_dataloader.dataset.indices', 0, 'train_dataloader.dataset.indices=0 leaves no image'),
    ('test_dataloader.dataset.indices', [], r'test_dataloader.dataset.indices=\[\] leaves no image'),
    ('val_dataloader.dataset.indices', 'all', "indices='all' leaves no image"),
    ('train_cfg.max_epochs', 0, 'train_cfg.max_epochs=0 must be at least 1'),
    ('train_cfg.val_interval', -1, 'train_cfg.val_interval=-1 must be at least 1'),
    ('randomness.seed', -1, 'randomness.seed=-1 must be from 0 to 4294967295'),
    ('randomness.seed', 2**32, 'must be from 0 to 4294967295'),
    ('randomness.sed', 1, "randomness has no setting 'sed', but seed"),
    ('optim_wrapper.optimizer.lr', float('nan'), 'optimizer.lr=nan must be a number, 0 or more'),
    ('optim_wrapper.optimizer.lr', '1e-4', "optimizer.lr='1e-4' must be a number, 0 or more"),
    ('optim_wrapper.accumulative_counts', 0, 'accumulative_counts=0 must be at least 1'),
    ('optim_wrapper.clip_grad.max_norm', -1, 'clip_grad.max_norm=-1 must be a number above 0'),
    ('default_hooks.checkpoint.max_keep_ckpst', 1, "no setting 'max_keep_ckpst', but max_keep_ckpts"),
    ('param_scheduler.1.T_max', 'x', "param_scheduler.1.T_max='x' must be a number"),
    ('train_dataloader.dataset.data_root', True, 'dataset.data_root=True must be a text'),
    ('model.roi_head.bbox_head.0.loss_cls.loss_weight', None, 'loss_cls.loss_weight=None must be a number'),
    ('default_hooks.logger.interval', 0, 'default_hooks.logger.interval=0 must be at least 1'),
    ('default_hooks.checkpoint.interval', 1.5, 'default_hooks.checkpoint.interval=1.5 must be at least 1'),
])
def test_what_cannot_work(cfg, key, value, message):
    owner, (*names, last) = cfg, key.split('.')
    for name in names:
        owner = owner[int(name) if name.isdigit() else name]
    owner[last] = value
    with pytest.raises(UsageError, match=message):
        check_config(cfg)


def test_a_slip_in_a_key_that_is_needed(cfg):
    cfg.trian_dataloader = cfg.pop('train_dataloader')
    with pytest.raises(UsageError, match='trian_dataloader, which nothing reads, and no train_dataloader'):
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
@pytest.mark.parametrize('part, key, message', [
    ('test_cfg', 'tolerence', "test_cfg.rcnn has no setting 'tolerence', but tolerance: it has max_per_img"),
    ('test_cfg', 'max_per_image', "no setting 'max_per_image', but max_per_img"),
    ('train_cfg', 'asigner', r"train_cfg.rcnn.0 has no setting 'asigner', but assigner"),
    ('test_cfg', 'something', "test_cfg.rcnn has no setting 'something': it has max_per_img"),
])
def test_settings_of_a_head_that_nobody_reads(config, part, key, message):
    config = config()
    rcnn = config[part].rcnn
    (rcnn[0] if isinstance(rcnn, list) else rcnn)[key] = 1
    with pytest.raises(UsageError, match=message):
        build(config)


def test_the_steps_of_prediction_misspelt():
    config = small_config()
    config.test_cfg.rcnn.refinement_step = 4
    with pytest.raises(UsageError, match="no setting 'refinement_step', but refinement_steps"):
        build(config)
    config = small_config()
    config.test_cfg.rcn = dict(refinement_steps=4)
    with pytest.raises(UsageError, match="model.test_cfg has no setting 'rcn', but rcnn"):
        build(config)


@pytest.mark.parametrize('config', [small_config, small_sparse_config])
def test_what_other_heads_of_mmdet_read_is_legal(config):
    config = config()
    config.test_cfg.rcnn.update(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5))
    config.train_cfg.rpn_proposal = dict(nms_pre=2000)
    build(config)


@pytest.mark.parametrize('option, message', [
    ('train_dataloader.batchsize=2', "unexpected keyword argument 'batchsize'"),
    ('train_dataloader.sampler.type=DefaultSample', "an unknown type, 'DefaultSample'"),
    ('model.bbox_head.anchor_generator.strides=16', 'AnchorGenerator cannot be built'),
    ('model.backbone.depth=19', 'ResNet cannot be built (KeyError: \'invalid depth 19'),
    ('train_cfg.by_epoch=3', 'train_loop cannot be built (RuntimeError: Only one of'),
    ('optim_wrapper.optimizer.betas=3', 'SGD'),
    ('train_dataloader.dataset.pipeline=3', 'train_dataloader.dataset.pipeline=3 must be a list of steps'),
    ('val_evaluator.metric=AP', 'CocoMetric cannot be built'),
    ('visualizer.vis_backends=3', 'DetLocalVisualizer cannot be built'),
    ('model.backbone.init_cfg.checkpoint.file=3', '--cfg-options'),
    ('trian_cfg.max_epochs=3', 'the config has no trian_cfg, which nothing would read: is train_cfg meant?'),
    ('default_hooks.checkpiont.interval=3', 'default_hooks.checkpiont has no type: is checkpoint meant?'),
])
def test_what_building_says_is_one_line(refused, tmp_path, option, message):
    # Runs with the same name within one second would share their log.
    config = write_config(tmp_path / f'{tmp_path.name}.py', write_dataset(tmp_path / 'data'))
    words = [NO_PRETRAINED] if 'init_cfg' not in option else []
    line = refused('train.py', config, '--cfg-options', *words, option)
    assert message in line and len(line) < 500


def test_the_traceback_may_be_had(call, tmp_path, monkeypatch):
    config = write_config(tmp_path / f'{tmp_path.name}.py', write_dataset(tmp_path / 'data'))
    monkeypatch.setenv('DEQDET_TRACEBACK', '1')
    with pytest.raises(KeyError, match='invalid depth 19'):
        call('train.py', config, '--cfg-options', NO_PRETRAINED, 'model.backbone.depth=19')
