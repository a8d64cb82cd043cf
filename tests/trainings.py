"""Real trainings through the shell tools, shared by the slow tests."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Tuple

from small_model import DEMO_CONFIG, ROOT

#: ``DEQDET_LONG=1 make test-slow`` trains the demo with all three seeds and kills a training twenty times.
LONG = os.environ.get('DEQDET_LONG', '0') != '0'
#: Seeds of the demo's trainings.
SEEDS = (0, 1, 2) if LONG else (0, )
#: Options to test with the validation images, for which the official code's AP is known.
ON_VALIDATION = [
    'test_dataloader.dataset.ann_file=annotations/val.json', 'test_dataloader.dataset.data_prefix.img=val/',
    'test_evaluator.ann_file=data/digits/annotations/val.json']


def shell(script, *words, folder, timeout=1800, **environment):
    """Run a shell tool; returns its standard output."""
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *map(str, words)], cwd=folder, capture_output=True,
        text=True, timeout=timeout,
        env=dict(os.environ, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1', **environment))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@dataclass(frozen=True)
class Demo:
    """The trained demo.

    Attributes:
        folder (Path): Has ``data/digits`` and a work dir for each seed.
        ap (dict[tuple, tuple]): (AP, AP50) on validation by (seed, refinement_steps), for 0 and the trained 8
            steps.
    """

    folder: Path
    ap: Dict[Tuple[int, int], Tuple[float, float]]

    def checkpoint(self, seed: int) -> Path:
        """The model of a seed."""
        return self.folder / f'seed{seed}' / 'epoch_8.pth'


def train_demo(folder: Path) -> Demo:
    """Make the data, then train and evaluate the demo with every seed; this takes minutes per seed."""
    subprocess.run([sys.executable, str(ROOT / 'tools/dataset/make_digits.py'),
                    str(folder / 'data/digits')], check=True)
    found = {}
    for seed in SEEDS:
        work = folder / f'seed{seed}'
        shell('dist_train.sh', DEMO_CONFIG, 1, '--work-dir', work, '--cfg-options',
              f'randomness.seed={seed}', 'train_cfg.val_interval=100', folder=folder,
              OMP_NUM_THREADS='1')
        for steps in (0, None):
            options = [] if steps is None else [f'model.test_cfg.rcnn.refinement_steps={steps}']
            shell('dist_test.sh', DEMO_CONFIG, work / 'epoch_8.pth', 1, '--work-dir', work / 'test',
                  '--cfg-options', *ON_VALIDATION, *options, folder=folder)
            log = max(work.glob('test/*/*.log'), key=os.path.getmtime).read_text()
            ap = re.search(r'coco/bbox_mAP: ([\d.]+)', log)
            ap50 = re.search(r'coco/bbox_mAP_50: ([\d.]+)', log)
            assert ap and ap50
            found[seed, 8 if steps is None else steps] = float(ap[1]), float(ap50[1])
    # pytest -rA or -s shows this.
    print('AP, AP50 by (seed, refinement_steps):', found)
    return Demo(folder, found)
