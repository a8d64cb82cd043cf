"""The lean graph has the gradients of the plain graph in every training mode, and uses less memory."""

import copy
import pickle

import pytest
import torch
from deqdet.analysis import PeakMemory
from deqdet.training.amp import BFloat16OptimWrapper
from golden import relative_error
from mmengine.optim import OptimWrapper
from small_model import batch_of, build, losses_of, small_config, total

BOUND = 1e-5


def gradients(model, weigh=total, **kwargs):
    """Gradients of a weighted sum of losses; None for parameters without gradient."""
    model.zero_grad()
    weigh(losses_of(model, **kwargs)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def assert_same(found, expected, factor=1.0, bound=BOUND):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        error = relative_error(found[name], gradient * factor)
        assert error < bound, f'{name}: {error:.1e}'


def lean_and_plain(config=None, **roi_head):
    """The same weights with both graphs; boxes move, as after some training."""
    models = []
    for lean in (True, False):
        model = build(config, **roi_head)
        model.roi_head.grad_accumulation = lean
        for layer in model.roi_head.bbox_head:
            torch.nn.init.normal_(layer.fc_reg.weight, std=0.01)
        if models:
            model.load_state_dict(models[0].state_dict())
        models.append(model.train())
    return models


def test_loss_scale():
    lean, plain = lean_and_plain()
    expected = gradients(plain)
    for scale in (1024.0, 0.5):
        found = gradients(lean, lambda losses, scale=scale: scale * total(losses))
        assert_same(found, expected, factor=scale)


def test_weighted_single_losses():
    lean, plain = lean_and_plain()

    def weigh(losses):
        keys = [key for key in losses if 'loss' in key]
        assert {'iter1_loss_cls', 'iter3_loss_iou', 'init^2_loss_bbox'} < set(keys)
        return sum(weight * losses[key] for weight, key in enumerate(keys, 1))

    assert_same(gradients(lean, weigh), gradients(plain, weigh))


@pytest.mark.parametrize('changes', [
    dict(rag=1), dict(rag=3), dict(use_init_head=False), dict(supervision_position=[1, 2, 3, 4]),
    dict(frozen_stages=1), dict(frozen_stages=2), dict(extra_supervisions_on_init_head=0),
    dict(sampling='rows')
], ids=str)
def test_every_form_of_the_head(changes):
    assert_same(*map(gradients, lean_and_plain(**changes)))


def test_positions_in_one_batch():
    roi_head = dict(supervision_position=[1, 2, 4])
    lean, plain = lean_and_plain(**roi_head)
    expected = gradients(plain)
    for model, together in ((lean, 2), (lean, 6), (plain, 3)):
        model.roi_head.positions_per_batch = together
        # The same numbers are added in another order, so rounding differs.
        assert_same(gradients(model), expected, bound=1e-3)


@pytest.mark.parametrize('part, change', [
    ('backbone', dict(with_cp=True)), ('backbone', dict(frozen_stages=2)), ('rpn_head', dict(frozen=True)),
], ids=str)
def test_other_parts_of_the_detector(part, change):
    config = small_config()
    config[part].update(change)
    assert_same(*map(gradients, lean_and_plain(config)))


def test_recomputation_keeps_the_random_state():
    config = small_config()
    for layer in config.roi_head.bbox_head:
        layer.dropout = 0.3
    assert_same(*map(gradients, lean_and_plain(config)))


def test_every_trained_parameter_has_a_gradient():
    found = gradients(lean_and_plain()[0])
    assert all(gradient is not None for gradient in found.values())
    assert all(gradient.abs().sum() > 0 for name, gradient in found.items()
               if name.startswith('roi_head.bbox_head.1'))


def test_gradients_from_outside():
    lean, plain = lean_and_plain()
    expected = gradients(plain)
    names = list(expected)
    parameters = dict(lean.named_parameters())
    found = torch.autograd.grad(total(losses_of(lean)), [parameters[name] for name in names])
    assert_same(dict(zip(names, found)), expected)
    assert all(parameters[name].grad is None for name in names)


@pytest.mark.parametrize('wrapper, counts', [(OptimWrapper, 2), (BFloat16OptimWrapper, 1)])
def test_train_step(wrapper, counts):
    """Accumulation, clipping and mixed precision, as in the training loop."""
    ends = []
    for model in lean_and_plain():
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        wrapped = wrapper(optimiser, accumulative_counts=counts, clip_grad=dict(max_norm=1.0))
        wrapped.initialize_count_status(model, 0, 2)
        torch.manual_seed(0)
        for objects in (((2, 7), (4, )), ((1, ), ()))[:counts]:
            batch = batch_of(model, objects)
            with wrapped.optim_context(model):
                losses = model(**batch, mode='loss')
            wrapped.update_params(model.parse_losses(losses)[0])
        ends.append({name: p.detach() - start[name] for name, p in model.named_parameters()
                     if p.requires_grad})
    assert_same(*ends)


def half_precision_gradients(model, scale):
    """Scaled gradients of a loss so small that float16 cannot hold them unscaled."""
    model.zero_grad()
    with torch.autocast('cpu', dtype=torch.float16):
        loss = 1e-7 * total(losses_of(model))
    (loss * scale).backward()
    return {name: p.grad / scale for name, p in model.named_parameters() if p.grad is not None}


def test_float16_gradients_are_formed_under_the_scale():
    lean, plain = lean_and_plain()
    scale = 2.0 ** 23
    expected = half_precision_gradients(plain, scale)
    lost = half_precision_gradients(plain, 1.0)
    name = 'roi_head.bbox_head.1.ffn.layers.0.0.weight'
    assert relative_error(lost[name], expected[name]) > 0.5, 'the case must underflow unscaled'
    assert_same(half_precision_gradients(lean, scale), expected)


def peak_of(model):
    model.zero_grad()
    with PeakMemory() as memory:
        total(losses_of(model)).backward()
    return memory.peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_supervised_positions():
    roi_head = dict(refinement_steps=6, supervision_position=[6])
    lean, plain = lean_and_plain(**roi_head)
    one, one_plain = peak_of(lean), peak_of(plain)
    for model in (lean, plain):
        model.roi_head.supervision_position = (1, 2, 3, 4, 5, 6)
    assert peak_of(lean) <= 1.1 * one
    assert peak_of(plain) > 1.5 * one_plain, 'the plain graph grows, so the measure sees it'


def test_the_model_can_be_copied_and_pickled():
    """Moving averages (EMA) copy it, started processes pickle it."""
    model = build()
    expected = gradients(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same(gradients(other), expected)
