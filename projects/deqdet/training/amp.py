"""Automatic mixed precision: mmengine's on a GPU, bfloat16 on a CPU."""

from contextlib import contextmanager
from typing import Iterator

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ..errors import UsageError
from ..launching.workers import has_accelerator


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, on the device of the model, with the arguments of ``OptimWrapper``.

    mmengine's ``AmpOptimWrapper`` requires a GPU. bfloat16 has the exponent range of float32, so gradients do
    not underflow and no loss scale is needed. Accumulation and clipping are those of ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of one training step inside."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield


def use_amp(cfg: Config) -> None:
    """Turn on mixed precision in a config (``--amp``).

    Args:
        cfg (Config): The whole config. Changed in place: ``AmpOptimWrapper`` with dynamic loss scale on an
            accelerator, as in mmdet's train.py, :class:`BFloat16OptimWrapper` on a CPU.

    Raises:
        UsageError: If the config has no ``optim_wrapper``.
    """
    if cfg.get('optim_wrapper') is None:
        raise UsageError('--amp: the config has no optim_wrapper; add it, or remove --amp', 'bad-config')
    if has_accelerator():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
        return
    cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
    # Arguments that only AmpOptimWrapper has, in configs written for GPUs.
    for name in ('loss_scale', 'dtype', 'use_fsdp'):
        cfg.optim_wrapper.pop(name, None)
