"""The hook that watches the equilibrium, in a real training."""

import json
import math
from functools import partial

import pytest
import torch
from data.tiny_coco import write_dataset
from deqdet.equilibrium import PathStatistics
from deqdet.training.equilibrium_hook import is_growing, is_still
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from small_model import DEMO_CONFIG, small_config, small_sparse_config
from training.toy import StrictBackend


def train(tmp_path, change=None, images=4, interval=2, model=None, **hook):
    """One iteration of the demo's config per image; returns the visualiser's scalars, and the log."""
    root = write_dataset(tmp_path / 'data', names=tuple('0123456789'), images=images)
    cfg = Config.fromfile(str(DEMO_CONFIG))
    cfg.model = model or small_config()
    data = dict(data_root=str(root), ann_file='annotations.json', data_prefix=dict(img='images/'))
    cfg.train_dataloader.dataset.update(data)
    cfg.train_dataloader.batch_size = 1
    cfg.merge_from_dict(dict(
        val_dataloader=None, val_evaluator=None, val_cfg=None, test_dataloader=None,
        test_evaluator=None, test_cfg=None, train_cfg=dict(max_epochs=1),
        default_hooks=dict(equilibrium=dict(interval=interval, **hook))))
    # This back end raises for metric names that MLflow rejects.
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend'), dict(type=StrictBackend)]
    cfg.visualizer.name = tmp_path.name  # a process keeps one visualiser per name
    cfg.work_dir = str(tmp_path / 'work_dir')
    # mmengine shares the logger, with its file, of runs that start in the same second under one name.
    cfg.experiment_name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    if change is not None:
        hook = Hook()
        hook.before_train = lambda runner: change(runner.model.roi_head)  # after the initialisation
        runner.register_hook(hook)
    runner.train()
    assert runner.model.roi_head.observer is None
    scalars = next((tmp_path / 'work_dir').glob('*/vis_data/scalars.json'))
    text = next((tmp_path / 'work_dir').glob('*/*.log')).read_text()
    return [json.loads(line) for line in scalars.read_text().splitlines()], text


@pytest.mark.parametrize('config', [
    small_config, partial(small_sparse_config, num_stages=4, stage_loss_weights=[1] * 4)],
    ids=['deqdet', 'sparse_rcnn'])
def test_scalars_of_the_path(tmp_path, config):
    scalars, text = train(tmp_path, model=config())
    assert 'EquilibriumHook:' not in text
    observed = [line for line in scalars if 'equilibrium/perturbed_steps' in line]
    assert [line['step'] for line in observed] == [2, 4]
    for line in observed:
        keys = [key for key in line if key.startswith('equilibrium/')]
        measured = [key for key in keys if '/content_relative/' in key]
        assert 0 <= line['equilibrium/perturbed_steps'] <= 1
        assert len(measured) == round(4 * (1 - line['equilibrium/perturbed_steps']))
        assert all(math.isfinite(line[key]) and line[key] >= 0 for key in keys)
        for step in (1, 3):  # both configs supervise these
            assert line[f'equilibrium/supervised/step{step:02}'] > 0
        # The training loop would treat a key with 'loss' as a loss.
        assert not any('loss' in key for key in keys)
    assert any('init_1' in key for line in scalars for key in line) and 'init^1' in text


def test_a_collapsed_layer_is_reported_once(tmp_path):
    def collapse(head):
        # A refinement layer that returns its input, without scores or boxes.
        refinement, start = head.bbox_head[1], head.bbox_head[0]
        for layer in (refinement, start):
            torch.nn.init.zeros_(layer.fc_cls.weight)
            torch.nn.init.zeros_(layer.fc_reg.weight)
            layer.requires_grad_(False)

    text = train(tmp_path, collapse, images=10, interval=1, warn_from=0, patience=2)[1]
    assert text.count('equilibrium has collapsed') == 1


@pytest.mark.parametrize('position, score, still', [
    ([0, 0, 0], [0, 0, 0], True), ([0.1, 0, 0], [0, 0, 0], False), ([0, 0, 0], [0, 0.1, 0], False),
    ([math.nan, 0, 0], [math.nan, 0, 0], None), ([0, math.nan, 0], [0, math.nan, 0], True),
    ([0, 0, 0], [math.nan, 0, 0], True), ([0, 0, 0], [math.nan, 0.1, 0], False)])
def test_predictions_that_stand_still(position, score, still):
    statistics = PathStatistics(
        absolute=dict(score=score), relative=dict(position=position), perturbed=[False] * 3)
    assert is_still(statistics) is still


@pytest.mark.parametrize('residuals, growing', [
    ([1, 0.5, 0.2, 0.1, 0.05, 0.02], False), ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], True),
    ([math.nan, math.nan, 1, 1, 2, 2], None), ([0.1, math.nan, 0.3, 0.4, math.nan, 0.6], True), ([], None)])
def test_growing_residuals(residuals, growing):
    assert is_growing(residuals) is growing
