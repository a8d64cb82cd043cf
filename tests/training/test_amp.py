"""--amp on a CPU: the forward pass is in bfloat16; accumulation and clipping are as without it."""

import pytest
import torch
from deqdet.training.amp import BFloat16OptimWrapper, use_amp
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from refusals import refused
from torch import nn


def wrapper_of(model, kind=BFloat16OptimWrapper, **kwargs):
    return kind(optimizer=torch.optim.SGD(model.parameters(), lr=1.0), **kwargs)


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 2)


def step(wrapper, model, inputs):
    with wrapper.optim_context(model):
        output = model(inputs)
    wrapper.update_params(output.float().square().sum())
    return output


def test_forward_in_bfloat16_weights_and_gradients_in_float32():
    model = linear()
    wrapper = wrapper_of(model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    output = step(wrapper, model, torch.randn(3, 4))
    assert output.dtype == torch.bfloat16
    assert model.weight.dtype == model.weight.grad.dtype == torch.float32
    assert model(torch.randn(3, 4)).dtype == torch.float32


@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=0.1)])
def test_accumulation_and_clipping_as_without(clip_grad):
    torch.manual_seed(1)
    inputs = torch.randn(5, 3, 4)
    results = []
    for kind in (OptimWrapper, BFloat16OptimWrapper):
        model = linear()
        wrapper = wrapper_of(model, kind, accumulative_counts=2,
                             clip_grad=clip_grad and dict(clip_grad))
        # Five steps: the last update has only half of the accumulated steps.
        wrapper.initialize_count_status(model, 0, 5)
        path = []
        for batch in inputs:
            if kind is OptimWrapper:
                with wrapper.optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
                    output = model(batch)
                wrapper.update_params(output.float().square().sum())
            else:
                step(wrapper, model, batch)
            path.append(model.weight.detach().clone())
        results.append(path)
    for expected, actual in zip(*results):
        torch.testing.assert_close(actual, expected)
    moved = [not torch.equal(a, b) for a, b in zip([linear().weight, *results[1]], results[1])]
    assert moved == [False, True, False, True, True]


def test_gradients_that_would_vanish_in_float16():
    model = linear()
    wrapper = wrapper_of(model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    with wrapper.optim_context(model):
        output = model(torch.ones(1, 4))
    wrapper.update_params(output.sum() * 1e-12)
    assert (model.weight.grad > 0).all()


def test_weights_used_without_gradient_first_still_learn():
    # The same layer solves an equilibrium's path without gradient and then learns. autocast caches converted
    # weights, and must not cache those without gradient.
    model = linear()
    wrapper = wrapper_of(model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    with wrapper.optim_context(model):
        with torch.no_grad():
            model(torch.ones(1, 4))
        output = model(torch.ones(1, 4))
    wrapper.update_params(output.sum())
    assert model.weight.grad is not None and model.weight.grad.abs().sum() > 0


def config(**kwargs):
    return Config(dict(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1),
                                          clip_grad=dict(max_norm=1.0), **kwargs)))


def test_switched_on_without_a_gpu(monkeypatch):
    monkeypatch.setattr('deqdet.training.amp.has_accelerator', lambda: False)
    cfg = config(loss_scale='dynamic', dtype='float16')
    use_amp(cfg)
    wrapper = build_optim_wrapper(linear(), cfg.optim_wrapper)
    assert isinstance(wrapper, BFloat16OptimWrapper)
    assert wrapper.clip_grad_kwargs == dict(max_norm=1.0)


def test_switched_on_with_a_gpu_as_mmdet_does(monkeypatch):
    monkeypatch.setattr('deqdet.training.amp.has_accelerator', lambda: True)
    cfg = config()
    use_amp(cfg)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == ('AmpOptimWrapper', 'dynamic')


def test_nothing_to_switch_on():
    with refused('bad-config', '--amp', 'optim_wrapper'):
        use_amp(Config(dict()))
