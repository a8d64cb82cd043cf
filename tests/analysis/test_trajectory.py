"""Following a solver: the recorded states are those of a prediction."""

import pytest
import torch
from deqdet.analysis import fixed_point_problem, follow
from deqdet.model.heads.solving import DISTANCES, build_solver
from small_model import batch_of, build, small_config, small_sparse_config

SOLVERS = dict(iterate=dict(type='iterate'), anderson=dict(type='anderson', memory=3, damping=0.1))


def moving(config):
    """A small detector in eval mode whose layers move boxes; new layers would not."""
    model = build(config).eval()
    with torch.no_grad():
        for layer in model.roi_head.bbox_head[:2]:
            layer.fc_reg.weight.normal_(std=0.05)
    return model


@pytest.fixture
def model():
    return moving(small_config())


@torch.no_grad()
def problem_of(model):
    """The fixed-point problem of two images, and the inputs of the head."""
    batch = batch_of(model)
    features = model.extract_feat(batch['inputs'])
    inputs = features, model.rpn_head.predict(features, batch['data_samples']), batch['data_samples']
    return *model.roi_head.fixed_point_problem(*inputs), inputs


def assert_same(state, expected):
    for part, other in zip(state, expected):
        torch.testing.assert_close(part, other, rtol=0, atol=0)


def test_states_of_the_plain_solver_are_applications_of_the_layer(model):
    start, step, _ = problem_of(model)
    states = follow(start, step, [0, 1, 3, 5]).states
    assert sorted(states) == [0, 1, 3, 5]
    state = start
    for k in range(6):
        if k in states:
            assert_same(states[k], state)
        with torch.no_grad():
            state = step(state)
    assert (states[5].box - states[3].box).abs().max() > 0.1


@pytest.mark.parametrize('solver', SOLVERS)
@torch.no_grad()
def test_states_are_those_that_the_detector_predicts_from(model, solver):
    """A prediction with k - 1 steps ends with one more refinement, the k-th."""
    head = model.roi_head
    start, step, inputs = problem_of(model)
    states = follow(start, step, range(1, 7), solver=build_solver(SOLVERS[solver], name='solver')).states
    for k in range(1, 7):
        settings = head.prediction_with(refinement_steps=k - 1, solver=SOLVERS[solver])
        assert_same(states[k], head.forward(*inputs, settings=settings))
    if solver == 'anderson':
        plain = follow(start, step, [6]).states[6]
        assert (plain.box - states[6].box).abs().max() > 0.1


@torch.no_grad()
def test_states_of_the_other_decoder():
    """Stage 0 is the initialisation: k refinements are k + 1 stages."""
    model = moving(small_sparse_config())
    start, step, inputs = problem_of(model)
    states = follow(start, step, range(4)).states
    for k in range(4):
        settings = model.roi_head.prediction_with(num_stages=k + 1)
        assert_same(states[k], model.roi_head.forward(*inputs, settings=settings))


@pytest.mark.parametrize('solver', SOLVERS)
def test_residuals_are_those_of_the_asked_states(model, solver):
    start, step, _ = problem_of(model)
    asked = []

    def watched(state):
        asked.append(state)
        return step(state)

    trajectory = follow(start, watched, range(7), solver=build_solver(SOLVERS[solver], name='solver'),
                        measure=DISTANCES)
    content, position = (trajectory.path.residuals[part] for part in ('content', 'position'))
    assert content.shape == position.shape == (6, 2)
    for k, before in enumerate(asked):
        after = trajectory.states[k + 1]
        torch.testing.assert_close(position[k], (after.box - before.box).abs().flatten(1).mean(1))
        length = (after.content - before.content).norm(dim=-1) / after.content.norm(dim=-1)
        torch.testing.assert_close(content[k], length.mean(1))


def test_time_passes(model):
    start, step, _ = problem_of(model)
    seconds = follow(start, step, [0, 2, 5]).seconds
    assert 0 <= seconds[0] < seconds[2] < seconds[5]


def test_nothing_is_done_for_y0_alone(model):
    start, _, _ = problem_of(model)

    def never(state):
        raise AssertionError('the layer was applied')

    trajectory = follow(start, never, [0])
    assert_same(trajectory.states[0], start)
    assert trajectory.path.num_steps == 0


@torch.no_grad()
def test_problem_of_a_batch_as_the_dataloader_gives_it(model):
    """Raw images give the same problem as prepared ones."""
    prepared = batch_of(model)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    raw = dict(inputs=[], data_samples=prepared['data_samples'])
    for image, sample in zip(prepared['inputs'], prepared['data_samples']):
        height, width = sample.img_shape
        pixels = (image[:, :height, :width] * std + mean).round().clamp(0, 255)
        raw['inputs'].append(pixels.to(torch.uint8).flip(0))  # BGR, as loaded
    problem = fixed_point_problem(model, raw)
    expected, expected_step, _ = problem_of(model)
    torch.testing.assert_close(problem.start.box, expected.box, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(
        problem.step(problem.start).box, expected_step(expected).box, rtol=1e-4, atol=1e-3)
    assert [sample.img_shape for sample in problem.samples] == [(96, 96), (64, 96)]
