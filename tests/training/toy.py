"""Trainings of about a second: a linear model with noise, on numbers with random augmentation."""

import itertools
import random
import re
import signal
import time
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np
import torch
from deqdet.compat.checkpoint_loading import safe_checkpoint_loading
from deqdet.training.resume import check_start, make_resumable
from deqdet.training.running import add_hooks
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization.vis_backend import BaseVisBackend
from torch import nn
from torch.utils.data import Dataset

_NUMBERS = itertools.count()


class Killed(BaseException):
    """Simulates kill -9: nothing of the run continues after it."""


@MODELS.register_module()
class Toy(BaseModel):
    """Its noise comes from python, numpy and torch, as a detector's may."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, *numbers, mode='loss'):
        inputs = torch.stack([number.float() for number in numbers])
        if mode != 'loss':
            return [self.layers(inputs).mean()]
        noise = random.random() + np.random.rand() + torch.rand(len(inputs), 1)
        return dict(loss=(self.layers(inputs) - noise).square().mean())


@DATASETS.register_module()
class Numbers(Dataset):
    """Pairs of the index and an augmentation, which depends on all three generators."""

    metainfo: dict = {}
    loaded: List[int] = []

    def __init__(self, size: int = 10) -> None:
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.loaded.append(index)
        return torch.tensor([index / self.size,
                             random.random() + np.random.rand() + torch.rand(()).item()])


@METRICS.register_module()
class Rising(BaseMetric):
    """A metric that rises with time."""

    values: List[float] = []

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        self.values.append(len(self.values))
        return dict(rising=float(len(self.values)))


@HOOKS.register_module()
class Diary(Hook):
    """Records iterations, and kills the process at one of them."""

    # After the checkpoint hook.
    priority = 'LOWEST'
    rate = 'lr'

    def __init__(self, kill_after: Optional[int] = None) -> None:
        self.kill_after = kill_after
        self.iterations: List[Tuple[int, int, int, float, float]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.iterations.append((runner.epoch, runner.iter, batch_idx,
                                runner.optim_wrapper.get_lr()[self.rate][0], outputs['loss'].item()))
        if runner.iter + 1 == self.kill_after:
            raise Killed


@VISBACKENDS.register_module()
class StrictBackend(BaseVisBackend):
    """Rejects all values of a call if one name is invalid, as MLflow does."""

    experiment = None

    def __init__(self, save_dir=None):
        super().__init__(save_dir or '')
        self.values = {}

    def _init_env(self):
        pass

    def add_scalar(self, name, value, step=0, **kwargs):
        self.add_scalars({name: value}, step)

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        for name in scalar_dict:
            if not re.fullmatch(r'[A-Za-z0-9_./-]+', name) or re.search(r'//|/$|^/|(^|/)\.+(/|$)', name):
                raise ValueError(f'invalid metric name {name!r}')
        for name, value in scalar_dict.items():
            self.values.setdefault(name, []).append(value)


def config(work_dir, **changes) -> Config:
    """Three epochs of five batches, with the hooks of the tools."""
    loader = dict(batch_size=2, num_workers=0, dataset=dict(type='Numbers'))
    cfg = Config(dict(
        default_scope='mmengine',
        # Runs within the same second would share their logger and message hub.
        experiment_name=f'toy{next(_NUMBERS)}',
        work_dir=str(work_dir),
        model=dict(type='Toy'),
        train_dataloader=dict(sampler=dict(type='DefaultSampler', shuffle=True), **loader),
        val_dataloader=dict(sampler=dict(type='DefaultSampler', shuffle=False), **loader),
        val_evaluator=dict(type='Rising'),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        val_cfg=dict(type='ValLoop'),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=7),
                         dict(type='MultiStepLR', milestones=[1, 2], gamma=0.5)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='Diary')],
        randomness=dict(seed=3)))
    cfg.merge_from_dict(changes)
    add_hooks(cfg)
    # The checks of a detector do not apply.
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if 'Check' not in hook['type']]
    make_resumable(cfg)
    return cfg


def train(cfg: Config) -> Tuple[Runner, List[tuple]]:
    """Train until the end or until it is killed; returns the runner and the recorded iterations."""
    handler = signal.getsignal(signal.SIGTERM)
    # Two runs that start within one second would write to one log file.
    while Path(cfg.work_dir, time.strftime('%Y%m%d_%H%M%S')).exists():
        time.sleep(0.05)
    with safe_checkpoint_loading():
        check_start(cfg)
        runner = Runner.from_cfg(cfg)
        try:
            runner.train()
        except (Killed, SystemExit):
            pass
        finally:
            # A "killed" run does not restore its signal handler.
            signal.signal(signal.SIGTERM, handler)
    diary, = (hook for hook in runner.hooks if isinstance(hook, Diary))
    return runner, diary.iterations
