"""One worker of a process group: ``python -m deqdet.device_check.worker DEVICE``, under torchrun."""

import sys
from datetime import timedelta
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from torch import distributed

from ..analysis.trial import random_batch
from .detectors import build, config_of, wrapper_of


def main() -> None:
    """Join the group, all-reduce, and take a training step under DDP; any error ends in a traceback."""
    device = torch.device(sys.argv[1])
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='WARNING')
    on_gpu = device.type == 'cuda'
    if on_gpu:
        device = torch.device('cuda', device.index or 0)
        torch.cuda.set_device(device)
    distributed.init_process_group('nccl' if on_gpu else 'gloo', timeout=timedelta(seconds=60))
    values = torch.arange(1000.0, device=device)
    expected = values.clone()
    distributed.all_reduce(values)
    if not torch.equal(values, expected):
        raise RuntimeError('all_reduce of one worker changed the values')
    print('worker: process group and all_reduce work')

    config = config_of()
    single: Any = build(config, device).train()
    torch.manual_seed(1)
    losses = single.train_step(random_batch(single, (96, 96)), wrapper_of(single, config, 1))
    twin = build(config, device).train()
    wrapped: Any = MMDistributedDataParallel(
        twin, device_ids=[device.index] if on_gpu else None, broadcast_buffers=False)
    torch.manual_seed(1)
    shared = wrapped.train_step(random_batch(twin, (96, 96)), wrapper_of(wrapped, config, 1))
    difference = abs(float(shared['loss']) - float(losses['loss'])) / abs(float(losses['loss']))
    if not difference < 1e-3:
        raise RuntimeError(f'the loss under DDP differs by {difference:.1e}')
    print(f'worker: a step under DDP has the loss of one without, relative difference {difference:.1e}')
    distributed.destroy_process_group()


if __name__ == '__main__':
    main()
