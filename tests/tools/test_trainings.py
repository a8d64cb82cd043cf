"""Real trainings through the shell tools: the R50 configs, and the demo with its AP."""

import csv
import json
import os
import re
import statistics
import subprocess
import sys

import cv2
import numpy as np
import pytest
from small_model import DEMO_CONFIG, ROOT
from trainings import ON_VALIDATION, SEEDS, shell

pytestmark = pytest.mark.slow


def write_tiny_coco(root, **images):
    """A set in COCO's layout, with its 80 classes and a few boxes per image; number of images by split."""
    from mmdet.datasets import CocoDataset
    generator = np.random.default_rng(0)
    names = CocoDataset.METAINFO['classes']
    (root / 'annotations').mkdir(parents=True)
    for split, count in images.items():
        (root / f'{split}2017').mkdir()
        records, annotations = [], []
        for i in range(count):
            height, width = 96, 128
            cv2.imwrite(str(root / f'{split}2017' / f'{i}.jpg'),
                        generator.integers(0, 255, (height, width, 3), dtype=np.uint8))
            records.append(dict(id=i, file_name=f'{i}.jpg', width=width, height=height))
            for _ in range(3):
                box = [*generator.uniform(0, 60, 2), *generator.uniform(10, 34, 2)]
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=i, category_id=int(generator.integers(1, 81)),
                    bbox=[float(v) for v in box], area=float(box[2] * box[3]), iscrowd=0))
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
        (root / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(
            dict(images=records, annotations=annotations, categories=categories)))


# The config's own pipelines, with small scales and crops.
SMALL = '''
_base_ = {base!r}
def small(value):
    if isinstance(value, list):
        return [small(part) for part in value]
    if isinstance(value, tuple) and len(value) == 2:
        return tuple(max(32, part // 10) for part in value)
    if isinstance(value, dict):
        return {{key: small(part) if key in ('transforms', 'scales', 'scale', 'crop_size') else part
                for key, part in value.items()}}
    return value
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    pipeline=[small(step) for step in _base_.train_dataloader.dataset.pipeline]))
test_pipeline = [small(step) for step in _base_.test_dataloader.dataset.pipeline]
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
del small
'''


@pytest.mark.parametrize('schedule, workers', [('1x', 2), ('2x', 1)])
def test_r50_configs_train_and_evaluate(tmp_path, schedule, workers):
    """Two iterations on a tiny COCO, under the published names."""
    write_tiny_coco(tmp_path / 'data' / 'coco', train=4 * workers, val=1 + workers)
    base = ROOT / 'projects' / 'configs' / f'eqdet_r50_{schedule}_coco.py'
    config = tmp_path / 'tiny.py'
    config.write_text(SMALL.format(base=str(base)))
    shell('dist_train.sh', config, workers, '--work-dir', 'work', '--cfg-options',
          'model.backbone.init_cfg=None', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=2',
          'default_hooks.checkpoint.save_optimizer=False', 'default_hooks.logger.interval=1',
          folder=tmp_path)
    log = max(tmp_path.glob('work/*/*.log')).read_text()
    losses = [float(value) for value in re.findall(r' loss: ([\d.naif]+)', log)]
    assert len(losses) == 2 and np.isfinite(losses).all()
    out = shell('dist_test.sh', config, 'work/epoch_1.pth', workers, '--work-dir', 'work', '--out',
                'out.pkl', folder=tmp_path)
    assert 'test: bbox_mAP ' in out and (tmp_path / 'out.pkl').stat().st_size > 0


def test_demo_learns(demo):
    """Measured with the official code on these data: AP 0.870, 0.837, 0.856 by seed, mean 0.854.

    One seed may be as far below the mean as the worst of these, since results depend on the processor.
    """
    mean_ap, mean_ap50, at_0_steps = (
        statistics.mean(demo.ap[seed, steps][which] for seed in SEEDS)
        for steps, which in ((8, 0), (8, 1), (0, 0)))
    assert mean_ap >= (0.855 if len(SEEDS) > 1 else 0.835), demo.ap
    assert mean_ap50 >= (0.965 if len(SEEDS) > 1 else 0.95), demo.ap
    assert at_0_steps >= 0.5, demo.ap


def test_steps_table_of_the_demo(demo):
    """AP rises with the steps, then stays. One solve gives the AP of tests. A tolerance saves most steps."""
    subprocess.run(
        [sys.executable, str(ROOT / 'tools/analysis/refinement_steps.py'), str(DEMO_CONFIG),
         'seed0/epoch_8.pth', '--refinements', '0', '1', '2', '5', '9', '21', '26', '51', '201',
         '--tolerance', 'content=0.2', 'position=0.5', '--steps', '25', '--out', 'table',
         '--cfg-options', *ON_VALIDATION],
        cwd=demo.folder, check=True,
        env=dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='-1'))
    with open(demo.folder / 'table' / 'refinement_steps.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    ap = {float(row['refinements']): float(row['AP']) for row in rows if row['stop'] == 'steps'}
    for steps in (0, 8):
        assert ap[steps + 1] == pytest.approx(demo.ap[0, steps][0], abs=0.002)
    assert ap[9] >= ap[0] + 0.2 and ap[1] < ap[2] < ap[5] + 0.005
    assert max(ap[k] for k in (5, 9, 21, 51)) - min(ap[k] for k in (5, 9, 21, 51)) < 0.02, ap
    # Largest differences of three seeds: 0.9 points from 9 to 201 refinements, 9.7 and 0.4 points with a
    # tolerance. The bounds are twice these, since another processor trains another model.
    assert max(ap[k] for k in (9, 21, 51, 201)) - min(ap[k] for k in (9, 21, 51, 201)) <= 0.02
    stopped, = (row for row in rows if row['stop'] == 'tolerance')
    assert float(stopped['refinements']) <= 0.4 * 26
    assert float(stopped['AP']) == pytest.approx(ap[26], abs=0.01)
