"""Anderson acceleration and stopping by tolerance, on maps with known fixed points."""

from typing import NamedTuple, Optional

import pytest
import torch
from deqdet.equilibrium import SOLVERS, Tolerance, iterate
from hypothesis import given, settings
from hypothesis import strategies as st


class Vectors(NamedTuple):
    """A state of B images, with a part that a layer adds."""
    value: torch.Tensor
    extra: Optional[torch.Tensor] = None

    def pack(self):
        return [self.value]

    def unpack(self, parts):
        return self._replace(value=parts[0])


class Affine:
    """y <- A_b y + c_b for each image b; counts its evaluations."""

    def __init__(self, matrix, offset, counter=None):
        self.matrix, self.offset = matrix, offset
        self.applied = [] if counter is None else counter

    def __call__(self, state):
        self.applied.append(len(state.value))
        value = torch.einsum('bij,bj->bi', self.matrix, state.value) + self.offset
        return Vectors(value, value.sum(-1))

    def restrict(self, images):
        return Affine(self.matrix[images], self.offset[images], self.applied)

    @property
    def fixed_point(self):
        identity = torch.eye(self.matrix.shape[1], dtype=self.matrix.dtype)
        return torch.linalg.solve(identity - self.matrix, self.offset)


def contraction(seed, images=3, size=64, norm=0.95):
    """Random symmetric maps whose largest eigenvalue has the given size."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(images, size, size, dtype=torch.float64, generator=generator)
    matrix = matrix + matrix.transpose(1, 2)
    matrix = norm * matrix / torch.linalg.matrix_norm(matrix, 2)[:, None, None]
    return Affine(matrix, torch.randn(images, size, dtype=torch.float64, generator=generator))


def distance(before, after):
    return (after.value - before.value).norm(dim=-1)


def tolerance(limit):
    return Tolerance(dict(value=(distance, limit)))


def zeros(step):
    return Vectors(torch.zeros_like(step.offset))


@pytest.mark.parametrize('solver', SOLVERS)
def test_finds_the_fixed_point(solver):
    step = contraction(0, norm=0.9)
    path = SOLVERS[solver]()(step, zeros(step), 500, tolerance=tolerance(1e-9))
    torch.testing.assert_close(path.final.value, step.fixed_point, atol=1e-6, rtol=0)
    assert path.reasons == ('tolerance', ) * 3


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2 ** 16))
def test_anderson_needs_fewer_steps_on_a_contraction(seed):
    step = contraction(seed)
    plain = iterate(step, zeros(step), 500, tolerance=tolerance(1e-6))
    mixed = SOLVERS['anderson']()(step, zeros(step), 500, tolerance=tolerance(1e-6))
    assert all(ours < theirs for ours, theirs in zip(mixed.steps, plain.steps))


def test_anderson_needs_fewer_steps_on_cos():
    class Cos:
        def __call__(self, state):
            return Vectors(state.value.cos())

        def restrict(self, images):
            return self

    start = Vectors(torch.zeros(1, 1, dtype=torch.float64))
    plain = iterate(Cos(), start, 100, tolerance=tolerance(1e-6))
    mixed = SOLVERS['anderson'](memory=2)(Cos(), start, 100, tolerance=tolerance(1e-6))
    assert mixed.final.value.item() == pytest.approx(0.7390851332151607, abs=1e-6)
    assert mixed.steps[0] < plain.steps[0] / 2


def test_memory_of_one_is_plain_iteration():
    step = contraction(1)
    plain = iterate(step, zeros(step), 7).final.value
    torch.testing.assert_close(SOLVERS['anderson'](memory=1)(step, zeros(step), 7).final.value, plain)


@pytest.mark.parametrize('regularisation', [0.0, 1e-8])
def test_singular_systems_fall_back(regularisation):
    """At the fixed point all residuals are zero; elsewhere, two equal pairs must count as one."""
    step = Affine(torch.zeros(2, 4, 4), torch.stack([torch.zeros(4), torch.ones(4)]))
    path = SOLVERS['anderson'](regularisation=regularisation)(step, zeros(step), 6)
    torch.testing.assert_close(path.final.value, step.offset)


def test_a_bound_on_the_weights_keeps_a_path_near_what_was_asked():
    """Along a slow direction Anderson jumps twenty times the last step; the bound prevents this."""
    step = Affine(torch.full((1, 1, 1), 0.95, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    plain, jumped, bounded = (
        solve(step, zeros(step), 3).final.value.item() for solve in (
            iterate, SOLVERS['anderson'](), SOLVERS['anderson'](weight_bound=4)))
    assert jumped == pytest.approx(step.fixed_point.item()), 'two pairs know a line'
    assert bounded == pytest.approx(plain)


@pytest.mark.parametrize('solver', SOLVERS)
def test_a_solved_image_costs_nothing_more_and_does_not_feel_the_others(solver):
    slow, quick = contraction(2, images=1, norm=0.95), contraction(3, images=1, norm=0.1)
    both = Affine(*(torch.cat(pair) for pair in ((slow.matrix, quick.matrix), (slow.offset, quick.offset))))
    path = SOLVERS[solver]()(both, zeros(both), 500, tolerance=tolerance(1e-8))
    alone = [SOLVERS[solver]()(step, zeros(step), 500, tolerance=tolerance(1e-8)) for step in (slow, quick)]
    assert path.steps == (alone[0].steps[0], alone[1].steps[0])
    assert path.steps[1] < path.steps[0] == path.num_steps
    assert sum(both.applied) == sum(path.steps)
    for image, expected in enumerate(alone):
        torch.testing.assert_close(path.final.value[image], expected.final.value[0])
        torch.testing.assert_close(path.final.extra[image], expected.final.extra[0])


def test_the_cap_is_named_as_the_reason():
    step = contraction(4)
    path = iterate(step, zeros(step), 3, tolerance=tolerance(0.0))
    assert path.steps == (3, 3, 3) and path.reasons == ('steps', ) * 3 and path.num_steps == 3
    torch.testing.assert_close(path.final, iterate(step, zeros(step), 3).final)


@pytest.mark.parametrize('solver', SOLVERS)
def test_the_record_holds_the_length_of_each_step_of_each_image(solver):
    step = contraction(6, norm=0.8)
    path = SOLVERS[solver]()(
        step, zeros(step), 200, tolerance=tolerance(1e-4),
        measure=dict(largest=lambda before, after: (after.value - before.value).abs().amax(-1)))
    lengths = path.residuals['value']
    assert lengths.shape == path.residuals['largest'].shape == (path.num_steps, 3)
    torch.testing.assert_close(lengths[0], step.offset.norm(dim=-1))  # the first step goes from 0 to c
    for image, steps in enumerate(path.steps):
        assert lengths[steps - 1, image] <= 1e-4 < lengths[:steps - 1, image].min()
        assert lengths[steps:, image].isnan().all()
    assert (path.residuals['largest'] <= lengths)[~lengths.isnan()].all()


def test_what_is_not_measured_is_not_computed():
    step = contraction(6)
    assert iterate(step, zeros(step), 5).residuals == {}
    measured = iterate(step, zeros(step), 5, measure=dict(value=distance))
    assert measured.residuals['value'].shape == (5, 3) and measured.steps is None


def test_agrees_with_torchdeq():
    solvers = pytest.importorskip('torchdeq.solver', reason='torchdeq is not installed')
    step = contraction(5, images=2, size=16, norm=0.5)  # the other solver is inaccurate for harder ones
    ours = SOLVERS['anderson']()(step, zeros(step), 300, tolerance=tolerance(1e-10)).final.value
    theirs = solvers.anderson_solver(
        lambda value: step(Vectors(value)).value, torch.zeros_like(step.offset), max_iter=300, tol=1e-10,
        stop_mode='abs')[0]
    torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=0)
