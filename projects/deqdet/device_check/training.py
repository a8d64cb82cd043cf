"""Training steps: in mixed precision, and in a worker of a process group."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import torch

from ..analysis.trial import random_batch
from ..training.amp import use_amp
from .detectors import build, config_of, wrapper_of
from .findings import Finding, Setting, judged, measured

#: A dynamic loss scale starts so high that it is halved a few times before the first step.
_STEPS = 20
#: A worker that takes longer hangs.
_WORKER_SECONDS = 120


def check_amp(setting: Setting) -> Iterator[Finding]:
    """A training step with ``--amp``."""
    config = config_of()
    use_amp(config)
    if not setting.on_gpu:
        # `use_amp` looks at the machine, this check at the device.
        config.optim_wrapper.type = 'BFloat16OptimWrapper'
        config.optim_wrapper.pop('loss_scale', None)
    model: Any = build(config, setting.device).train()
    wrapper = wrapper_of(model, config, _STEPS)
    _stir(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    moved, steps, losses = 0, 0, {}
    while not moved and steps < _STEPS:
        steps += 1
        losses = model.train_step(random_batch(model, (96, 96)), wrapper)
        moved = sum(not torch.equal(p, before[name])
                    for name, p in model.named_parameters() if name in before)
    wide = all(p.dtype == torch.float32 for p in model.parameters())
    finite = all(bool(torch.isfinite(p).all()) for p in model.parameters())
    loss = float(losses['loss'].detach())
    kind = config.optim_wrapper.type
    yield judged('training step with --amp', moved == len(before) and wide and finite and loss == loss,
                 f'{kind}: loss {loss:.4g}, {moved} of {len(before)} tensors moved at step {steps}'
                 + ('' if wide and finite else ', weights are not finite float32'), loss=loss, steps=steps)


def _stir(model: Any) -> None:
    """Replace zero weights of new layers, which block the gradient at the first step."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=1e-2)


def check_worker(setting: Setting) -> Iterator[Finding]:
    """Run one worker over NCCL or gloo in a separate process, so that a hang or crash ends only that."""
    name = f'one worker over {"nccl" if setting.on_gpu else "gloo"}'
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    package = Path(__file__).resolve().parents[2]
    environment = dict(os.environ, RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1',
                       MASTER_PORT=str(port),
                       PYTHONPATH=os.pathsep.join(filter(None, (str(package), os.environ.get('PYTHONPATH')))))
    words = [sys.executable, '-m', 'deqdet.device_check.worker', str(setting.device)]
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=_WORKER_SECONDS)
    except subprocess.TimeoutExpired:
        yield judged(name, False, f'did not end after {_WORKER_SECONDS} s')
        return
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ['no output']
        yield judged(name, False, f'ended with status {done.returncode}: {lines[-1][:120]}')
        return
    for line in done.stdout.splitlines():
        kind, _, detail = line.partition(': ')
        if kind == 'worker':
            yield judged(name, True, detail)
        elif kind == 'fact':
            yield measured(name, detail)
