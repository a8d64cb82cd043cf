"""Metrics count the objects of the tested images only."""

import pytest
import torch
from data.tiny_coco import annotation, write_annotations, write_config, write_dataset
from deqdet.data.evaluated_images import EvaluatedImagesHook, limit_evaluator
from deqdet.training.running import add_hooks, runner_of
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from refusals import refused

BOX = (8, 8, 24, 24)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Four images, each with an object at the same place; the fourth has three."""
    root = write_dataset(tmp_path_factory.mktemp('set') / 'data')
    objects = [annotation(number + 1, number, BOX, number % 2 + 1) for number in range(4)]
    objects += [annotation(5, 3, (40, 40, 20, 20)), annotation(6, 3, (2, 40, 20, 20), 2)]
    write_annotations(root / 'annotations.json', objects)
    write_annotations(root / 'part.json', objects[:2], images=2)
    return root


@pytest.fixture
def cfg(tmp_path, root):
    cfg = Config.fromfile(write_config(tmp_path / 'config.py', root))
    cfg.test_dataloader.batch_size = 2
    return cfg


def evaluate(cfg, *, lost=()):
    """Metrics of a detector that finds the objects of the first three images, and nothing in the fourth."""
    loader = Runner.build_dataloader(cfg.test_dataloader)
    kind = cfg.test_evaluator.get('type') if isinstance(cfg.test_evaluator, dict) else None
    evaluator = EVALUATOR.build(cfg.test_evaluator) if kind == 'MultiDatasetsEvaluator' else Evaluator(
        cfg.test_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    limit_evaluator(evaluator, loader)
    for data in loader:
        samples = [sample for sample in data['data_samples'] if sample.img_id not in lost]
        for sample in samples:
            found = int(sample.img_id != 3)
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([[8., 8., 32., 32.]])[:found], scores=torch.ones(found),
                labels=torch.tensor([sample.img_id % 2])[:found])
        evaluator.process(data_samples=samples)
    return evaluator.evaluate(len(loader.dataset) - len(lost))


def test_all_images_give_the_same_as_ever(cfg):
    # Each class has three objects. Two and one are found: the mean of AP 2/3 and 1/3, in 101 steps.
    assert evaluate(cfg)['coco/bbox_mAP'] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize('indices', [3, [2, 0, 1]])
def test_indices(cfg, indices, log):
    cfg.test_dataloader.dataset.indices = indices
    assert evaluate(cfg)['coco/bbox_mAP'] == 1
    assert 'evaluates the 3 images of the data set, of 4 images in its annotation file' in ' '.join(log)


def without_first_file(data):
    """A data set of two parts; both lack the first image file."""
    return dict(type='ConcatDataset', datasets=[dict(data, indices=[0]), dict(data, indices=[1, 2])])


def filtered(data):
    return dict(data, test_mode=False, filter_cfg=dict(filter_empty_gt=True, min_size=32), indices=3)


def wrapped(data):
    return dict(type='RepeatDataset', times=1, dataset=dict(data, indices=-3))


@pytest.mark.parametrize('wrap', [without_first_file, filtered])
def test_other_ways_to_leave_images_out(cfg, wrap):
    cfg.test_dataloader.dataset = wrap(cfg.test_dataloader.dataset)
    assert evaluate(cfg)['coco/bbox_mAP'] == 1


def test_the_last_images_within_a_wrapper(cfg):
    cfg.test_dataloader.dataset = wrapped(cfg.test_dataloader.dataset)
    # In images 1, 2 and 3 one of two objects of the first class is found, and one of three of the second.
    assert evaluate(cfg)['coco/bbox_mAP'] == pytest.approx((1 / 2 + 1 / 3) / 2, abs=0.01)


def test_a_limited_number_of_batches(cfg):
    cfg.test_dataloader.update(batch_size=1, num_batch_per_epoch=3)
    assert evaluate(cfg)['coco/bbox_mAP'] == 1


@pytest.mark.parametrize('metrics', [dict(metric=['bbox', 'proposal', 'proposal_fast']), dict(ann_file=None)])
def test_other_settings_of_the_metric(cfg, metrics):
    cfg.test_dataloader.dataset.indices = [1, 2]
    if 'ann_file' in metrics:
        # The ground truth comes from the samples.
        cfg.test_dataloader.dataset.pipeline[-1].meta_keys = (
            *cfg.test_dataloader.dataset.pipeline[-1].meta_keys, 'instances')
    cfg.test_evaluator.update(metrics)
    found = evaluate(cfg)
    assert found['coco/bbox_mAP'] == 1
    if 'metric' in metrics:
        assert found['coco/AR@100'] == 1


def test_a_list_of_metrics(cfg):
    cfg.test_dataloader.dataset.indices = 3
    cfg.test_evaluator = [dict(cfg.test_evaluator, prefix='a'), dict(cfg.test_evaluator, prefix='b')]
    found = evaluate(cfg)
    assert found['a/bbox_mAP'] == found['b/bbox_mAP'] == 1


def test_one_metric_for_each_data_set(cfg, root):
    data = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[dict(data, indices=3), dict(data)])
    cfg.test_evaluator = dict(type='MultiDatasetsEvaluator', metrics=[cfg.test_evaluator, cfg.test_evaluator],
                              dataset_prefixes=['some', 'all'])
    found = evaluate(cfg)
    assert found['some/coco/bbox_mAP'] == 1 and found['all/coco/bbox_mAP'] < 0.6


def test_lost_predictions_count_as_missed(cfg):
    cfg.test_dataloader.dataset.indices = 3
    assert evaluate(cfg, lost=[1])['coco/bbox_mAP'] == 0.5


def test_dropped_images_are_warned_of(cfg, log):
    cfg.test_dataloader.drop_last = True
    cfg.test_dataloader.dataset.indices = 3
    assert evaluate(cfg, lost=[])['coco/bbox_mAP'] < 1
    assert 'drop_last=True of the dataloader removes 1 images' in ' '.join(log)


def test_images_that_are_tested_twice(cfg):
    cfg.test_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=cfg.test_dataloader.dataset)
    with refused('images-mismatch', '4 of 8 image ids', 'RepeatDataset', 'MultiDatasetsEvaluator'):
        evaluate(cfg)


def test_images_that_the_file_lacks(cfg, root):
    cfg.test_evaluator.ann_file = str(root / 'part.json')
    with refused('images-mismatch', '2 of 4 images', 'CocoMetric', '(ids 2, 3)', 'ann_file'):
        evaluate(cfg)
    cfg.test_dataloader.dataset.indices = 2
    assert evaluate(cfg)['coco/bbox_mAP'] == 1


def test_the_hook_limits_validation_and_test(cfg, tmp_path):
    cfg.model.backbone.init_cfg, cfg.launcher, cfg.work_dir = None, 'none', str(tmp_path / 'work')
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset.indices = [2, 1]
    add_hooks(cfg)
    with runner_of(cfg) as runner:
        hook, = (hook for hook in runner.hooks if isinstance(hook, EvaluatedImagesHook))
        hook.before_train(runner)
        hook.before_test(runner)
        assert runner.val_evaluator.metrics[0].img_ids == runner.test_evaluator.metrics[0].img_ids == [2, 1]
