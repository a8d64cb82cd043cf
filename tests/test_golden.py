"""Internal values agree with the official models: exactly in double precision, closely in float32."""

import functools
from dataclasses import dataclass

import pytest
import torch
from deqdet import DEQDetRoIHead
from deqdet.analysis import use_reference_form
from deqdet.analysis.reference import training_step
from deqdet.model.state import DecoderState
from golden import MULTIPLE, case_names, growth, load_case, relative_error

# Rounding errors of float64 stay below 1e-10, even if they grow as in the worst case.
DOUBLE_BOUND = 1e-7
PARTS = ('position', 'content', 'bbox', 'cls_score')  # names of the parts in the reference
# Heads with a DecoderState; the reference has their single states.
QUERY_CASES = [name for name in case_names(('DEQDetRoIHead', 'FFNDetRoIHead'))
               if any('solve.' in key or 'stage.' in key for key in load_case(name).expected)]


@pytest.fixture(params=case_names())
def case(request):
    """A case. Its detector perturbs at the same steps as the reference."""
    return load_case(request.param)


def forms(*fast):
    """Every form of the computation; the fast tests use only the given ones."""
    return pytest.mark.parametrize('use_form', [
        pytest.param(form, marks=[] if form in fast else pytest.mark.slow)
        for form in ('small', 'large', 'reference')], indirect=True)


@pytest.fixture
def use_form(request, monkeypatch):
    """Sets the form for small inputs, for large ones, or that of the benchmark's reference."""
    if request.param == 'large':
        monkeypatch.setattr('deqdet.model.mixing._IN_BLOCKS_FROM', 0)
        monkeypatch.setattr('deqdet.model.sampling._ROWS_FROM', 0)

    def use_form(model):
        if request.param == 'reference':
            if not hasattr(model.roi_head, 'sampling'):
                pytest.skip('Sparse R-CNN has one form')
            use_reference_form(model)
        return model

    return use_form


def assert_close(actual, expected, what, bound):
    error = relative_error(actual, expected)
    assert error < bound, f'{what}: relative error {error:.2e}, bound {bound:.1e}'


def losses_of(case, model, images):
    """Losses of the case's batch, with the same random numbers."""
    samples = case.batch(model)['data_samples']
    torch.manual_seed(case.config.get('train_seed', 0))  # cases without random numbers have no seed
    return model.loss(images, samples)


@forms('small', 'large')
def test_double_precision(case, use_form):
    """Every prediction, loss and gradient. With perturbation, by the same seed."""
    if case.expected64 is None:
        pytest.skip('the case has no expected64.pt')
    model = use_form(case.build(torch.float64).eval())
    batch = case.batch(model)
    with torch.no_grad():
        results = model.predict(batch['inputs'], batch['data_samples'], rescale=True)
    found = {f'predict.{i}.{key}': result.pred_instances[key]
             for i, result in enumerate(results) for key in ('scores', 'bboxes', 'labels')}

    torch.manual_seed(case.config.get('train_seed', 0))  # cases without random numbers have no seed
    losses = training_step(model.train(), batch['inputs'], case.batch(model)['data_samples'])
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused, 'parameters without use'
    found.update({f'loss.{key}': value for key, value in losses.items()})
    expected_losses = {key for key in case.expected64 if key.startswith('loss.')}
    assert expected_losses == {key for key in found if key.startswith('loss.')}
    found.update({f'grad.{name}': p.grad for name, p in model.named_parameters()})

    for key, expected in case.expected64.items():
        assert_close(found[key], expected, key, DOUBLE_BOUND)
        # Accuracies (percent) and labels are not sums.
        assert found[key].dtype == torch.float64 or key.endswith(('pos_acc', 'labels')), key


def decoded(model, images, samples):
    """Features, proposals and decoder outputs, by their names in the reference."""
    with torch.no_grad():
        features = model.extract_feat(images)
        proposals = model.rpn_head.predict(features, samples)
        state = model.roi_head(features, proposals, samples)
        found = {f'feats.{level}': feature for level, feature in enumerate(features)}
        for key in ('bboxes', 'features'):
            found[f'proposals.{key}'] = torch.stack([each[key] for each in proposals])
        found.update({'final.bbox': state.box, 'final.cls_score': state.logits})
        if isinstance(state, DecoderState):
            for name, state in free_run(model.roi_head, features, proposals):
                found.update({f'{name}.{part}': value for part, value in zip(PARTS, state)})
    return found


def free_run(head, features, proposals):
    """States of the whole decoder, by their names in the reference."""
    state, features = head.initial_state(proposals), head.pyramid(features)
    if not isinstance(head, DEQDetRoIHead):
        for stage in range(len(head.bbox_head)):
            state = head.apply_layer(stage, features, state)
            yield f'stage.{stage}', state
        return
    state = head.initialise(features, state)
    yield 'solve.0', state
    for t in range(1, head.refinement_steps + 2):
        state = head.apply_layer(-1, features, state)
        yield f'solve.{t}', state


@functools.cache
def exact_states(case):
    """Decoder outputs in double precision, and how far rounding to float32 moves them."""
    double = case.build(torch.float64).eval()
    batch = case.batch(double)
    return (decoded(double, batch['inputs'], batch['data_samples']),
            growth(lambda model, tensors: decoded(model, *tensors, batch['data_samples']),
                   double, [batch['inputs']]))


@forms('small')
def test_states_in_single_precision(case, use_form):
    """Compared with the float32 reference if it has a value, else with double precision."""
    exact, moved = exact_states(case)
    model = use_form(case.build().eval())
    batch = case.batch(model)
    found = decoded(model, batch['inputs'], batch['data_samples'])
    assert any(key in case.expected for key in found) or not hasattr(model.roi_head, 'pyramid')
    for key, value in found.items():
        assert value.dtype == torch.float32, key
        assert_close(value, case.expected.get(key, exact[key]), key, MULTIPLE * moved[key])


@functools.cache
def moved_losses(case):
    """How far rounding to float32 moves the losses."""

    def compute(model, tensors):
        with torch.no_grad():
            return losses_of(case, model, *tensors)

    double = case.build(torch.float64).train()
    return growth(compute, double, [case.batch(double)['inputs']])


@forms('small')
def test_losses_in_single_precision(case, use_form):
    """With perturbation, by the same seed."""
    moved = moved_losses(case)
    model = use_form(case.build().train())
    with torch.no_grad():
        found = losses_of(case, model, case.batch(model)['inputs'])
    for key, value in found.items():
        assert_close(value, case.expected[f'loss.{key}'], key, MULTIPLE * moved[key])


@dataclass(frozen=True)
class Step:
    """One application of a layer to the reference's state and features."""

    layer: int
    answer: str
    tensors: list  # the features, then the parts of the state

    def __call__(self, model, tensors):
        head, levels = model.roi_head, len(tensors) - len(PARTS)
        return dict(zip(PARTS, head.apply_layer(
            self.layer, head.pyramid(tensors[:levels]), DecoderState(*tensors[levels:]))))


@functools.cache
def steps_of(case):
    """Steps between two states of the reference, and how far rounding to float32 moves the second one."""
    double = case.build(torch.float64).eval()
    prefix = 'solve' if isinstance(double.roi_head, DEQDetRoIHead) else 'stage'
    steps = []
    for t in range(1, 100):
        if all(f'{prefix}.{i}.content' in case.expected for i in (t - 1, t)):
            names = [f'feats.{level}' for level in range(len(double.roi_head.featmap_strides))]
            names += [f'{prefix}.{t - 1}.{part}' for part in PARTS]
            step = Step(-1 if prefix == 'solve' else t, f'{prefix}.{t}', [case.expected[n] for n in names])
            with torch.no_grad():
                steps.append((step, growth(step, double, [tensor.double() for tensor in step.tensors])))
    return steps


@forms('small')
@pytest.mark.parametrize('case', QUERY_CASES, indirect=True)
def test_one_step_from_each_reference_state(case, use_form):
    """One application of the layer to the reference's own state and features, and its gradient.

    So rounding errors cannot grow over several steps. Gradients of the whole path may be 1e-1 off in float32,
    in the official code as well as here, so they are compared in double precision only.
    """
    model = use_form(case.build().eval())
    steps = steps_of(case)
    assert steps
    for step, moved in steps:
        with torch.no_grad():
            found = step(model, step.tensors)
        for part, value in found.items():
            assert_close(value, case.expected[f'{step.answer}.{part}'], f'{step.answer}.{part}',
                         MULTIPLE * moved[part])

    gradients = []
    for each in (model, case.build(torch.float64).eval()):
        answer = step(each, [tensor.to(each.roi_head.bbox_head[0].fc_cls.weight) for tensor in step.tensors])
        sum((answer[part] * torch.linspace(-1, 1, answer[part].numel()).view_as(answer[part])).sum()
            for part in ('content', 'bbox', 'cls_score')).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in each.parameters() if p.grad is not None]))
    # In a single step rounding grows to 1e-6. The rest is a margin for a ReLU close to zero.
    assert_close(*gradients, 'gradient of one step', 1e-3)
