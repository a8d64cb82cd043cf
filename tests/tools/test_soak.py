"""The memory of a long training and of many predictions does not grow."""

import gc
import os
import subprocess
import sys

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from small_model import DEMO_CONFIG, ROOT

# The demo's detector on real images of its size, shrunk to less than a tenth of a second per iteration. Each
# epoch restarts the loader workers and includes validation, checkpoints and the residual hook.
CONFIG = '''
_base_ = {base!r}
layer = {{**_base_.decoder_layer, 'in_points': 4, 'out_points': 8}}
model = dict(
    backbone=dict(base_channels=4, stem_channels=4), neck=dict(in_channels=[4, 8, 16, 32]),
    rpn_head=dict(num_proposals=4), test_cfg=dict(rcnn=dict(max_per_img=20)),
    roi_head=dict(refinement_steps=3, supervision_position=[1, 2], bbox_head=[layer, layer]))
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                  dict(type='RandomResize', scale=(160, 160), ratio_range=(0.5, 1.0), keep_ratio=True),
                  dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
train_dataloader = dict(batch_size=2, num_workers=1,
                        dataset=dict(data_root={data!r}, pipeline=train_pipeline))
val_dataloader = dict(batch_size=4, dataset=dict(data_root={data!r}))
test_dataloader = dict(batch_size=1, dataset=dict(data_root={data!r}))
val_evaluator = dict(ann_file={data!r} + 'annotations/val.json')
test_evaluator = dict(ann_file={data!r} + 'annotations/test.json')
train_cfg = dict(max_epochs={epochs}, val_interval=4)
custom_hooks = [dict(type='Ledger')]
'''
IMAGES, EPOCHS, BATCHES = 100, 12, 50
EVERY = 50
# The first quarter fills caches and pools. The log and the allocator add less than this; one kept image or
# graph per iteration would add more.
MEGABYTES = 40


@HOOKS.register_module(force=True)
class Ledger(Hook):
    """Records what the process holds."""

    # After all other hooks.
    priority = 'LOWEST'
    pages = []

    def __init__(self):
        self.pages.clear()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if (runner.iter + 1) % EVERY == 0:
            self.write_down()

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if (batch_idx + 1) % 20 == 0:
            self.write_down()

    def write_down(self):
        gc.collect()
        with open('/proc/self/statm') as file:
            resident = int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20
        tensors = sum(isinstance(each, torch.Tensor) for each in gc.get_objects())
        self.pages.append((resident, tensors, len(os.listdir('/proc/self/fd'))))


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('soak')
    subprocess.run([sys.executable, str(ROOT / 'tools/dataset/make_digits.py'), str(folder / 'data'),
                    '--train', str(IMAGES), '--val', '40', '--test', '200'], check=True)
    path = folder / 'soak.py'
    path.write_text(CONFIG.format(base=str(DEMO_CONFIG), data=f'{folder}/data/', epochs=EPOCHS))
    return path


def check(pages, capsys, *, kept=0):
    """Nothing grows except what an evaluation keeps: ``kept`` tensors from one page to the next."""
    with capsys.disabled():
        print(f'\nMB, tensors, files: {[tuple(map(round, page)) for page in pages]}')
    begun = len(pages) // 4
    resident, tensors, files = zip(*(
        (resident, tensors - kept * page, files)
        for page, (resident, tensors, files) in enumerate(pages) if page >= begun))
    # Compare the end with the maximum of the first half.
    half = len(resident) // 2
    assert max(resident[half:]) < max(resident[:half]) + MEGABYTES
    assert max(tensors[half:]) <= max(tensors[:half])
    assert max(files[half:]) <= max(files[:half])


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='what a process holds is read from /proc')
def test_soak(call, config, tmp_path, capsys):
    """Six hundred iterations, then two hundred predictions of one image each."""
    call('train.py', config, '--work-dir', tmp_path / 'work')
    assert len(Ledger.pages) == EPOCHS * BATCHES // EVERY
    check(Ledger.pages, capsys)
    # Boxes, scores and labels of each image are kept for COCO's evaluation.
    call('test.py', config, tmp_path / 'work' / f'epoch_{EPOCHS}.pth')
    assert len(Ledger.pages) == 10
    check(Ledger.pages, capsys, kept=3 * 20)
