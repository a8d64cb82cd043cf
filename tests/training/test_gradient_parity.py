"""Two workers with half of the batch each learn the same as one worker with the whole batch."""

import socket
from datetime import timedelta

import deqdet  # noqa: F401  (before mmdet, also in the second worker)
import pytest
import torch
from golden import relative_error
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from small_model import batch_of, build, small_config, small_mask_head, total
from torch import distributed, multiprocessing

pytestmark = pytest.mark.slow

WORKERS = 2
# Kinds of mask heads. Global ones draw points, others on each worker.
MASKS = (None, 'local')
# Labels of the objects of each image. The first worker gets the first two images.
BATCHES = dict(
    objects_everywhere=((2, 7), (4, ), (1, ), (0, 3, 5)),
    objects_of_one_worker=((), (), (6, 6), (9, )),
    one_object_in_all=((3, ), (), (), ()),
    no_object=((), (), (), ()))


def gradients(objects, rank=None, masks=None):
    """Gradients of two iterations by name, and the names of parameters without gradient.

    ``objects`` are the labels of each image. Worker ``rank`` takes its share of the images; None takes all.
    ``masks`` is the kind of mask head.
    """
    # RAP draws different noise on each worker, and norms in training mode see only the worker's images.
    config = small_config(perturb_content_prob=0, perturb_position_prob=0, refinement_steps=2,
                          supervision_position=[1, 2])
    config.backbone.norm_eval = True
    if masks:
        config.roi_head.mask_head = small_mask_head(masks)
    model = build(config).double().train()
    batch = batch_of(model, objects=objects)  # 96 x 96 and 64 x 96 in both halves, padded to 96 x 96
    share = slice(None)
    forward = model
    if rank is not None:
        size = len(objects) // WORKERS
        share = slice(rank * size, (rank + 1) * size)
        forward = MMDistributedDataParallel(model, broadcast_buffers=False,
                                            find_unused_parameters=False)
    steps, without = [], set()
    for _ in range(2):
        # Move to weights without the zeros of new ones, equal for all. Following the gradients would compare
        # two models that differ by rounding; at a kink, 1e-7 in a weight can become 1e-2.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        model.zero_grad(set_to_none=True)
        losses = forward(batch['inputs'][share].double(), batch['data_samples'][share], mode='loss')
        total(losses).backward()
        named = {name: parameter.grad for name, parameter in model.named_parameters()
                 if parameter.requires_grad}
        without |= {name for name, grad in named.items() if grad is None}
        steps.append({name: grad.clone() for name, grad in named.items() if grad is not None})
    return steps, without


def work(rank, port):
    """Gradients of all batches, as a worker."""
    distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=WORKERS,
        timeout=timedelta(seconds=60))
    try:
        with DefaultScope.overwrite_default_scope('mmdet'):
            return {(name, masks): gradients(objects, rank, masks)
                for name, objects in BATCHES.items() for masks in MASKS}
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope='module')
def of_workers():
    """Gradients of the first of two workers, which is this process. Both have the same."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    # With a GPU, a forked process could not run a backward pass.
    second = multiprocessing.get_context('spawn').Process(target=work, args=(1, port))
    second.start()
    found = work(0, port)
    second.join(60)
    assert second.exitcode == 0
    return found


@pytest.mark.parametrize('name', BATCHES)
@pytest.mark.parametrize('masks', MASKS)
def test_gradients(of_workers, name, masks):
    steps, without = of_workers[name, masks]
    expected_steps, expected_without = gradients(BATCHES[name], masks=masks)
    assert without == expected_without == set()
    for step, expected in zip(steps, expected_steps):
        assert step.keys() == expected.keys()
        errors = {key: relative_error(step[key], expected[key]) for key in expected}
        worst = max(errors, key=errors.get)
        # mmdet adds float32's 1.2e-7 to divisors. In float32 a pixel of a true mask could flip.
        assert errors[worst] < 1e-6, worst
        assert any(grad.abs().sum() > 0 for grad in expected.values())
