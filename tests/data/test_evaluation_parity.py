"""One, two and three workers give the same metrics, even if the images do not divide evenly."""

import json
import os
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from data.tiny_coco import annotation, write_annotations, write_dataset
from deqdet.training.running import add_hooks, runner_of
from mmengine.config import Config
from mmengine.device import utils as device
from mmengine.registry import DefaultScope
from small_model import DEMO_CONFIG, build, small_config

DIGITS = tuple('0123456789')
METRICS = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100', 'AR@300', 'AR@1000',
           'AR_s@1000', 'AR_m@1000', 'AR_l@1000']


def config_for(root, weights, out):
    """The demo's evaluation of the small model on other images."""
    cfg = Config.fromfile(str(DEMO_CONFIG))
    cfg.model = small_config()
    cfg.load_from, cfg.work_dir, cfg.launcher = str(weights), str(out), 'pytorch'
    cfg.test_dataloader.update(batch_size=4)
    cfg.test_dataloader.dataset.update(
        data_root=str(root), ann_file='annotations.json', data_prefix=dict(img='images/'))
    cfg.test_evaluator.update(
        ann_file=str(root / 'annotations.json'), metric_items=METRICS,
        outfile_prefix=str(out / 'results'))
    return cfg


def work(cfg, answers, **variables):
    """One worker, always on a CPU."""
    os.environ.update(variables)
    device.DEVICE = 'cpu'
    add_hooks(cfg)
    with runner_of(cfg) as runner:
        metrics = runner.test()
    if variables['RANK'] == '0':
        answers.put(metrics)


def evaluate(cfg, workers, port):
    """The metrics of the first worker, and the detections in its file."""
    spawn = get_context('spawn')  # forking a process with OpenMP threads hangs
    answers = spawn.SimpleQueue()
    tasks = []
    for rank in range(workers):
        variables = dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers),
                         LOCAL_WORLD_SIZE=str(workers), MASTER_ADDR='127.0.0.1',
                         MASTER_PORT=str(port))
        tasks.append(spawn.Process(target=work, args=(cfg, answers), kwargs=variables))
        tasks[-1].start()
    for task in tasks:
        task.join(300)
    assert [task.exitcode for task in tasks] == [0] * workers
    with open(cfg.test_evaluator.outfile_prefix + '.bbox.json') as file:
        return answers.get(), json.load(file)


def truth_from(detections, images):
    """Annotations near some detections of every image, so that these are hits of varied quality."""
    rng = np.random.default_rng(0)
    found = []
    for image in range(images):
        own = [entry for entry in detections if entry['image_id'] == image]
        for pick in rng.choice(len(own), 2, replace=False):
            x, y, w, h = own[pick]['bbox']
            x, y = x + rng.uniform(-0.15, 0.15) * w, y + rng.uniform(-0.15, 0.15) * h
            found.append(annotation(len(found) + 1, image, (x, y, w, h), own[pick]['category_id']))
    return found


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Weights that give boxes of many sizes and classes."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build()
    # These layers start at zero: every box would equal its proposal, the whole image.
    for layer, std in zip(model.roi_head.bbox_head, (0.15, 0.01)):
        torch.nn.init.normal_(layer.fc_reg.weight, std=std)
    path = tmp_path_factory.mktemp('weights') / 'small.pth'
    torch.save(model.state_dict(), path)
    return path


@pytest.mark.slow
def test_tables(tmp_path, weights, free_port):
    images = 23  # not divisible by two or three
    root = write_dataset(tmp_path / 'data', names=DIGITS, images=images)
    cfg = config_for(root, weights, tmp_path)
    # Random weights find no real objects. So some detections become the ground truth.
    _, detections = evaluate(cfg, 1, free_port)
    write_annotations(root / 'annotations.json', truth_from(detections, images), names=DIGITS,
                      images=images)
    expected, detections = evaluate(cfg, 1, free_port)
    assert 0.05 < expected['coco/bbox_mAP'] < 0.95 and len(expected) == len(METRICS)
    for workers in (2, 3):
        metrics, others = evaluate(cfg, workers, free_port)
        assert metrics == expected
        assert len(others) == len(detections) == images * 12
        for one, other in zip(detections, others):
            assert one['image_id'] == other['image_id'] and one['category_id'] == other['category_id']
            assert np.allclose(one['bbox'] + [one['score']], other['bbox'] + [other['score']], atol=1e-3)
