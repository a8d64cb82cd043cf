"""Real trainings through tools/train.py that are killed, terminated and resumed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from small_model import DEMO_CONFIG, ROOT
from trainings import LONG

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6

# The demo's detector with its perturbation, shrunk to a tenth of a second per iteration.
CONFIG = '''
_base_ = {base!r}
layer = {{**_base_.decoder_layer, 'in_points': 4, 'out_points': 8}}
model = dict(
    backbone=dict(base_channels=4, stem_channels=4),
    neck=dict(in_channels=[4, 8, 16, 32]),
    rpn_head=dict(num_proposals=4),
    roi_head=dict(refinement_steps=3, supervision_position=[1, 2], bbox_head=[layer, layer]))
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
train_dataloader = dict(batch_size=2, dataset=dict(data_root={data!r}, pipeline=pipeline))
val_dataloader = dict(dataset=dict(data_root={data!r}))
val_evaluator = dict(ann_file={data!r} + 'annotations/val.json')
train_cfg = dict(max_epochs=3, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(by_epoch=False, interval=2))
log_processor = dict(window_size=1)
'''
BATCHES = 6
ITERATIONS = 3 * BATCHES


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('resume')
    subprocess.run([sys.executable, str(ROOT / 'tools/dataset/make_digits.py'), str(folder / 'data'),
                    '--train', str(2 * BATCHES), '--val', '2', '--test', '2'], check=True)
    path = folder / 'small.py'
    path.write_text(CONFIG.format(base=str(DEMO_CONFIG), data=f'{folder}/data/'))
    return path


class Training:
    """A training in a separate process group; its output goes to a file."""

    def __init__(self, config, work_dir, *words, workers=None):
        command = [sys.executable, str(ROOT / 'tools/train.py'), str(config)]
        if workers:
            command = ['bash', str(ROOT / 'tools/dist_train.sh'), str(config), str(workers)]
        work_dir.mkdir(exist_ok=True)
        self.work_dir = work_dir
        self.logged_before = len(self.log())
        self.output_file = work_dir / 'output.txt'
        with open(self.output_file, 'w') as output:
            self.process = subprocess.Popen(
                [*command, '--work-dir', str(work_dir), *map(str, words)], cwd=work_dir,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env=dict(os.environ, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1',
                         OMP_NUM_THREADS='1'))

    def newest_checkpoint(self):
        """Iteration of the newest complete checkpoint, 0 without one."""
        return max((int(path.stem.removeprefix('iter_')) for path in self.work_dir.glob('iter_*.pth')),
                   default=0)

    def log(self):
        """Iteration and loss of each logged iteration, over all runs in the work dir."""
        lines = [line for path in sorted(self.work_dir.glob('*/vis_data/scalars.json'))
                 for line in path.read_text().splitlines()]
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                # The incomplete last line of a killed process.
                assert line == lines[-1] or not line.endswith('}')
        return [(record['iter'], record['loss']) for record in records if 'loss' in record]

    def wait_for(self, iterations):
        """Wait until this process has logged this many iterations."""
        deadline = time.monotonic() + 120
        while len(self.log()) < self.logged_before + iterations:
            assert self.process.poll() is None and time.monotonic() < deadline, self.output()
            time.sleep(0.02)
        return self

    def output(self):
        return self.output_file.read_text()

    def send(self, number, *, group=False):
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.wait()

    def wait(self):
        return self.process.wait(timeout=300)


def compare(training, reference):
    """Every iteration was done, and each time with the loss of the uninterrupted run."""
    found = training.log()
    assert {number for number, _ in found} == set(reference)
    assert max(abs(loss - reference[number]) for number, loss in found) <= TOLERANCE


@pytest.fixture(scope='module')
def reference(config, tmp_path_factory):
    """Loss by iteration of an uninterrupted run."""
    training = Training(config, tmp_path_factory.mktemp('whole'))
    assert training.wait() == 0, training.output()
    return dict(training.log())


def test_killed_and_resumed(config, reference, tmp_path):
    """Killed between two checkpoints, in the middle of an epoch; resumed with loader workers."""
    work_dir = tmp_path / 'work'
    training = Training(config, work_dir).wait_for(BATCHES + 3)
    assert training.send(signal.SIGKILL, group=True) == -signal.SIGKILL
    resumed = Training(config, work_dir, '--resume', '--cfg-options',
                       'train_dataloader.num_workers=1')
    assert resumed.wait() == 0, resumed.output()
    compare(resumed, reference)
    assert [path.name for path in work_dir.glob('*.pth')] == [f'iter_{ITERATIONS}.pth']
    # Files of a checkpoint that was being written are removed.
    assert not list(work_dir.glob('*.unfinished'))


def test_sigterm_saves_and_ends(config, reference, tmp_path):
    """Signal the whole group, including loader workers, as a cluster does."""
    work_dir = tmp_path / 'work'
    words = ['--cfg-options', 'default_hooks.checkpoint.interval=100',
             'train_dataloader.num_workers=1']
    training = Training(config, work_dir, *words).wait_for(BATCHES + 2)
    assert training.send(signal.SIGTERM, group=True) == 128 + signal.SIGTERM
    assert 'Traceback' not in training.output()
    line, = (line for line in training.output().splitlines() if 'SIGTERM' in line)
    checkpoint, = work_dir.glob('*.pth')
    assert str(checkpoint) in line and '--resume' in line
    resumed = Training(config, work_dir, '--resume', *words)
    assert resumed.wait() == 0, resumed.output()
    compare(resumed, reference)
    # No iteration was lost or done twice, and the interim checkpoint is deleted.
    assert [number for number, _ in resumed.log()] == list(range(1, ITERATIONS + 1))
    assert [path.name for path in work_dir.glob('*.pth')] == [f'iter_{ITERATIONS}.pth']


def test_sigterm_before_training(config, tmp_path):
    training = Training(config, tmp_path / 'work')
    time.sleep(0.5)
    assert training.send(signal.SIGTERM) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert 'Traceback' not in training.output() and not list(tmp_path.glob('work/*.pth'))


def test_sigterm_with_two_workers(config, tmp_path):
    whole = Training(config, tmp_path / 'whole', workers=2)
    assert whole.wait() == 0, whole.output()
    training = Training(config, tmp_path / 'work', '--cfg-options',
                        'default_hooks.checkpoint.interval=100', workers=2).wait_for(4)
    assert training.send(signal.SIGTERM) == 128 + signal.SIGTERM
    assert 'Traceback' not in training.output() and 'Error' not in training.output()
    assert training.output().count('SIGTERM: ') == 1
    checkpoint, = tmp_path.glob('work/interim_iter_*.pth')
    assert (tmp_path / 'work' / 'last_checkpoint').read_text() == str(checkpoint)
    resumed = Training(config, tmp_path / 'work', '--resume', workers=2)
    assert resumed.wait() == 0, resumed.output()
    compare(resumed, dict(whole.log()))


def test_many_kills(config, tmp_path):
    """Killed at random moments, from the start of the process, including while saving."""
    kills, epochs = (20, 25) if LONG else (4, 6)
    words = ['--cfg-options', f'train_cfg.max_epochs={epochs}', 'train_cfg.val_interval=5',
             'default_hooks.checkpoint.max_keep_ckpts=2', 'default_hooks.checkpoint.interval=1']
    whole = Training(config, tmp_path / 'whole', *words)
    assert whole.wait() == 0, whole.output()
    draw = random.Random(0)
    saved = []  # iteration of the newest checkpoint at each kill
    for kill in range(kills):
        training = Training(config, tmp_path / 'work', '--resume', *words)
        if kill % 4 == 3:
            # While the process starts or loads its checkpoint.
            time.sleep(draw.uniform(0, 6))
        else:
            training.wait_for(1)
            time.sleep(draw.uniform(0, 1.5))
        assert training.process.poll() is None, training.output()
        training.send(signal.SIGKILL, group=True)
        assert 'Traceback' not in training.output() and 'error: ' not in training.output()
        check_start(training, saved)
        saved.append(training.newest_checkpoint())
    last = Training(config, tmp_path / 'work', '--resume', *words)
    assert last.wait() == 0, last.output()
    check_start(last, saved)
    compare(last, dict(whole.log()))


def check_start(training, saved):
    """The training continued after the newest checkpoint, even if the last kill interrupted its saving."""
    for number, _ in training.log()[training.logged_before:][:1]:
        assert number == max(saved, default=0) + 1
