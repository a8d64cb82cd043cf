"""The config of a run, and the default hooks."""

import argparse
import os
import re

import pytest
from deqdet import UsageError
from deqdet.launching.command_line import add_common_arguments
from deqdet.training.running import add_hooks, load_config
from mmengine.config import Config
from small_model import DEMO_CONFIG, ROOT


def arguments(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    parser.add_argument('--work-dir')
    add_common_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'experiment.py'
    path.write_text("init_cfg = dict(type='Pretrained', checkpoint='x')\n"
                    "model = dict(backbone=dict(init_cfg=init_cfg),\n"
                    "             bbox_head=[dict(num_classes=80)])\n")
    return str(path)


def test_options_override(config):
    cfg = load_config(arguments(config, '--cfg-options', 'model.backbone.init_cfg=None',
                                'model.bbox_head.0.num_classes=3'))
    assert cfg.model.backbone.init_cfg is None
    assert cfg.model.bbox_head[0].num_classes == 3


def test_a_key_below_the_switch(config):
    cfg = load_config(arguments(
        config, '--cfg-options', 'model.backbone.init_cfg.checkpoint=my file.pth'))
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'


def test_work_dir_is_that_of_the_option_the_config_or_its_name(config):
    assert load_config(arguments(config)).work_dir == './work_dirs/experiment'
    assert load_config(arguments(config, '--cfg-options', 'work_dir=there')).work_dir == 'there'
    assert load_config(arguments(config, '--work-dir', 'here', '--cfg-options',
                                 'work_dir=there')).work_dir == 'here'


def test_hooks_are_added_once():
    cfg = Config(dict(custom_hooks=[dict(type='EMAHook'), dict(type='DataCheckHook')]))
    add_hooks(cfg)
    add_hooks(cfg)
    assert [hook.type for hook in cfg.custom_hooks] == [
        'EMAHook', 'DataCheckHook', 'EvaluatedImagesHook', 'CheckpointCheckHook', 'ResumeHook',
        'MetricNamesHook', 'IterationSeedHook', 'HookStateHook', 'TerminationHook']


def test_missing_config(tmp_path):
    with pytest.raises(UsageError, match='gone.py'):
        load_config(arguments('gone.py'))


def test_the_launcher_comes_before_the_config(monkeypatch):
    """Tasks of srun get their rank before any other error is possible."""
    for name in list(os.environ):
        if name.startswith('SLURM_'):
            monkeypatch.delenv(name)
    with pytest.raises(UsageError, match='--launcher slurm'):
        load_config(arguments('gone.py', '--launcher', 'slurm'))


def test_missing_base_of_a_config(tmp_path):
    path = tmp_path / 'experiment.py'
    path.write_text("_base_ = 'gone.py'")
    with pytest.raises(UsageError, match='experiment.py.*gone.py'):
        load_config(arguments(str(path)))


def test_an_option_that_is_none(config, capsys):
    with pytest.raises(SystemExit) as caught:
        arguments(config, '--cfg-options', 'model.depth', '3')
    assert caught.value.code == 2
    assert "'model.depth' is not of the form KEY=VALUE" in capsys.readouterr().err


def test_tensorboard_as_the_documentation_has_it():
    """The option reaches the visualiser as a type, not as text."""
    option = re.search(r'--cfg-options (visualizer\S+)', (ROOT / 'docs/equilibrium.md').read_text())[1]
    cfg = load_config(arguments(str(DEMO_CONFIG), '--cfg-options', option))
    assert cfg.visualizer.vis_backends == [dict(type='TensorboardVisBackend')]
