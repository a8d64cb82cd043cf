"""Two workers perturb at different steps, or at the same ones."""

from datetime import timedelta

import deqdet  # noqa: F401  (before mmdet, also in the second worker)
import pytest
import torch
from deqdet.equilibrium import PathObserver
from mmengine.registry import DefaultScope
from small_model import build, losses_of
from torch import distributed, multiprocessing

pytestmark = pytest.mark.slow

STEPS = 16


def perturbed_steps(rank, shared):
    """Perturbed steps of one training path; each worker has its own images and random state."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build(shared_coins=shared, refinement_steps=STEPS)
        model.roi_head.observer = PathObserver({})
        with torch.no_grad():
            losses_of(model, seed=rank)
        return model.roi_head.observer.statistics().perturbed


def work(rank, port, results):
    """A worker with each kind of coins."""
    distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2, timeout=timedelta(minutes=2))
    try:
        results[rank] = [perturbed_steps(rank, shared) for shared in (True, False)]
    finally:
        distributed.destroy_process_group()


def test_coins_of_two_workers(free_port):
    context = multiprocessing.get_context('spawn')  # a forked process could not use a GPU
    with context.Manager() as manager:
        results = manager.dict()
        second = context.Process(target=work, args=(1, free_port, results))
        second.start()
        work(0, free_port, results)
        second.join(60)
        (shared, own), (shared_by_second, own_of_second) = results[0], results[1]
    assert shared == shared_by_second
    assert 0 < sum(shared) < STEPS
    assert own != own_of_second
