"""Files in the layout of the released models, made from tables of their parameters."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from mmdet.datasets import CocoDataset
from mmengine.logging import HistoryBuffer
from small_model import ROOT

TABLES = ROOT / 'tests' / 'data' / 'checkpoints'


def state_dict_of_table(name, **filled):
    """Tensors with the names, shapes and types of a table; zero except those in ``filled``.

    Each tensor repeats one value, so a file stores only that value.
    """
    state_dict = OrderedDict()
    for line in (TABLES / f'{name}.tsv').read_text().splitlines():
        if line[0] == '#':
            continue
        key, shape, dtype = line.split('\t')
        sizes = () if shape == 'scalar' else tuple(map(int, shape.split('x')))
        value = torch.zeros(1, dtype=getattr(torch, dtype)).reshape(()).expand(sizes)
        state_dict[key] = value
    state_dict.update(filled)
    return state_dict


def released_checkpoint(state_dict, epoch=12):
    """A state dict in the form that mmengine saves at the end of an epoch."""
    log = HistoryBuffer()
    for value in (3.0, 2.5, 2.0):
        log.update(value)
    parameters = [key for key in state_dict if 'running' not in key and 'num_batches' not in key]
    average = torch.zeros(1).expand(4, 4)
    return dict(
        meta=dict(epoch=epoch, iter=epoch * 7330, cfg='model = dict(type=\'DEQDet\')\n', seed=1234,
                  experiment_name='eqdet_20230101', time='20230102_030405', mmengine_version='0.7.3',
                  dataset_meta=dict(classes=CocoDataset.METAINFO['classes'],
                                    palette=CocoDataset.METAINFO['palette'])),
        state_dict=state_dict,
        message_hub=dict(
            log_scalars=OrderedDict({'train/loss': log, 'val/coco/bbox_mAP': log}),
            runtime_info=OrderedDict(epoch=epoch, iter=epoch * 7330, loop_stage='val',
                                     best_score=np.float64(0.46), train_loss=np.float32(2.0)),
            resumed_keys=OrderedDict({'train/loss': True})),
        optimizer=dict(
            state={number: dict(step=torch.tensor(7330.), exp_avg=average, exp_avg_sq=average)
                   for number in range(3)},
            param_groups=[dict(lr=1e-4, weight_decay=0.1, betas=(0.9, 0.999), eps=1e-8, amsgrad=False,
                               params=[number]) for number in range(len(parameters))]),
        param_schedulers=[dict(base_values=[2.5e-5], last_step=epoch * 7330, _global_step=epoch * 7330,
                               verbose=False)])


def write_released(path: Path, name: str, **filled) -> Path:
    """Write a file of a released model, see :func:`state_dict_of_table`."""
    torch.save(released_checkpoint(state_dict_of_table(name, **filled)), path)
    return path
