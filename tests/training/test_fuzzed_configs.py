"""A real config with one changed setting gives a training with an evaluation, or one clear error line."""

import argparse
import copy
import itertools
import math
import os
import shutil
from unittest import mock

import pytest
from data.tiny_coco import write_dataset
from deqdet.checkpoints.check import check_pretrained
from deqdet.data.checks import check_files
from deqdet.files.disk import check_work_dir
from deqdet.training import running
from deqdet.training.resume import check_start
from deqdet.training.running import load_config, runner_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdet.visualization import DetLocalVisualizer
from mmengine.visualization import Visualizer
from outcomes import line_of
from small_model import DEMO_CONFIG

# For more examples: DEQDET_EXAMPLES=500 python -m pytest tests/training/test_fuzzed_configs.py
EXAMPLES = int(os.environ.get('DEQDET_EXAMPLES', 0))

CONFIG = '''
_base_ = {base!r}
layer = {{**_base_.decoder_layer, 'in_points': 4, 'out_points': 8, 'num_classes': 2}}
model = dict(
    backbone=dict(base_channels=4, stem_channels=4), neck=dict(in_channels=[4, 8, 16, 32]),
    rpn_head=dict(num_proposals=3), test_cfg=dict(rcnn=dict(max_per_img=5)),
    roi_head=dict(refinement_steps=2, supervision_position=[1, 2], bbox_head=[layer, layer]))
data = dict(data_root={root!r}, ann_file='annotations.json', data_prefix=dict(img='images/'),
            metainfo=dict(classes=('fig', 'kiwi')))
train_dataloader = dict(batch_size=4, dataset=data)
val_dataloader = dict(batch_size=4, dataset=data)
val_evaluator = dict(ann_file={root!r} + '/annotations.json')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
'''
PARTS = ('model', 'train_dataloader', 'val_dataloader', 'optim_wrapper', 'train_cfg', 'val_cfg',
         'param_scheduler', 'default_hooks', 'randomness', 'val_evaluator', 'visualizer', 'log_processor',
         'env_cfg', 'auto_scale_lr')
ODD = [0, -1, 3, 1.5, 'x', '', None, True, [], {}, [1], [0, -1], (2, 3), math.nan, math.inf, -math.inf,
       {'a': 1}]


class Workplace:
    """Four images, and the demo's model config for them, made small."""

    def __init__(self, folder):
        self.folder = folder
        self.numbers = itertools.count()
        path = folder / 'small.py'
        path.write_text(CONFIG.format(base=str(DEMO_CONFIG), root=str(write_dataset(folder / 'data'))))
        self.arguments = argparse.Namespace(
            config=str(path), cfg_options=None, launcher='none', local_rank=0, work_dir=str(folder / 'work'),
            trust_checkpoint=False)
        self.plain = running.read_config(self.arguments)
        self.places = [place for part in PARTS if part in self.plain
                       for place in _places(self.plain[part], (part, ))]

    def train(self, change):
        """Train as tools/train.py does."""
        cfg = copy.deepcopy(self.plain)
        change(cfg)
        # Runs with the same name within one second would share their log.
        name = f'fuzz{next(self.numbers)}'
        self.arguments.work_dir = str(self.folder / name)
        with mock.patch.object(running, 'read_config', return_value=cfg):
            cfg = load_config(self.arguments)
        cfg.experiment_name = name
        try:
            self.run(cfg)
        finally:
            # Otherwise later runs (also of other tests) would write to this visualiser's folder.
            for kind in (Visualizer, DetLocalVisualizer):
                kind._instance_dict.clear()
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @staticmethod
    def run(cfg):
        check_work_dir(cfg.work_dir)
        check_start(cfg)
        check_pretrained(cfg.get('model'))
        check_files(cfg, ('train', 'val'))
        with runner_of(cfg) as runner:
            runner.train()


def _places(part, path):
    """Path of every setting below a part."""
    yield path
    items = {}
    if isinstance(part, (dict, list, tuple)):
        items = dict(part if isinstance(part, dict) else enumerate(part))
    for key, value in items.items():
        yield from _places(value, (*path, key))


def _owner(cfg, path):
    for key in path[:-1]:
        cfg = cfg[key]
    return cfg


def _set(cfg, path, value):
    owner = _owner(cfg, path)
    if isinstance(owner, tuple):
        return
    owner[path[-1]] = copy.deepcopy(value)


def _misspell(cfg, path):
    owner = _owner(cfg, path)
    if isinstance(owner, dict) and len(str(path[-1])) > 2:
        key = str(path[-1])
        owner[key[:-2] + key[-1] + key[-2]] = owner.pop(path[-1])


def _drop(cfg, path):
    owner = _owner(cfg, path)
    if not isinstance(owner, tuple):
        owner.pop(path[-1])


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield Workplace(tmp_path_factory.mktemp('fuzz'))


def test_the_config_itself_works(place):
    assert line_of(lambda: place.train(lambda cfg: None)) is None


@pytest.mark.slow
@settings(max_examples=EXAMPLES or 12, deadline=None, derandomize=not EXAMPLES,
          suppress_health_check=list(HealthCheck))
@given(data=st.data(), how=st.sampled_from(['set', 'misspell', 'drop']))
def test_one_setting_is_wrong(place, data, how):
    path = data.draw(st.sampled_from(place.places))
    value = data.draw(st.sampled_from(ODD)) if how == 'set' else None
    line_of(lambda: place.train(lambda cfg: dict(
        set=lambda: _set(cfg, path, value), misspell=lambda: _misspell(cfg, path),
        drop=lambda: _drop(cfg, path))[how]()))
