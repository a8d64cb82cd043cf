"""Several nodes (here two launches on one machine) train together."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data.tiny_coco import NO_PRETRAINED, write_config, write_dataset

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_two_nodes(tmp_path, free_port):
    write_config(tmp_path / 'tiny.py', write_dataset(tmp_path / 'data'))
    nodes = []
    for rank in '01':
        environment = dict(os.environ, NNODES='2', NODE_RANK=rank, MASTER_ADDR='127.0.0.1',
                           PORT=str(free_port), PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1')
        nodes.append(subprocess.Popen(
            ['bash', str(ROOT / 'tools' / 'dist_train.sh'), 'tiny.py', '1', '--work-dir',
             f'work{rank}', '--verbose', '--cfg-options', NO_PRETRAINED, 'train_cfg.val_interval=2'],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        outputs = [node.communicate(timeout=100) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], outputs[0][1][-2000:]
    # Four images are one batch of two for each. The first node writes the log and the model.
    assert re.search(r'GPU number: 2\n', outputs[0][0]) and 'Epoch(train) [1][1/1]' in outputs[0][0]
    model = torch.load(tmp_path / 'work0' / 'epoch_1.pth', weights_only=False)
    assert model['meta']['iter'] == 1
    assert not (tmp_path / 'work1' / 'epoch_1.pth').exists()
