"""Solving, perturbing and unrolling, on maps with known fixed points."""

import math

import pytest
import torch
from deqdet.equilibrium import (
    Disturbance,
    Perturbation,
    additive_noise,
    iterate,
    recomputed,
    relative_noise,
    unroll,
)
from hypothesis import given
from hypothesis import strategies as st

DOTTIE = 0.7390851332151607  # the fixed point of cos


def test_finds_the_fixed_point_of_cos():
    path = iterate(math.cos, 0.0, 100, keep=(1, 2))
    assert path.final == pytest.approx(DOTTIE)
    assert path.kept == {1: 1.0, 2: math.cos(1.0)}
    assert path.num_steps == 100


@given(st.floats(-0.9, 0.9), st.floats(-10, 10), st.floats(-10, 10), st.integers(0, 30))
def test_affine_map(slope, offset, start, steps):
    path = iterate(lambda y: slope * y + offset, start, steps)
    fixed = offset / (1 - slope)
    assert path.final - fixed == pytest.approx(slope ** steps * (start - fixed), abs=1e-9)


def test_steps_are_counted_from_one_and_noise_comes_before_the_step():
    path = iterate(lambda y: y * 2, 1, 3, perturb=lambda y: y + 1, keep=(0, 1, 3, 9))
    assert path.kept == {1: 4, 3: 22}


def test_no_step_is_the_start():
    assert iterate(math.cos, 0.3, 0).final == 0.3


@pytest.mark.parametrize('rag', [1, 2, 3])
def test_gradient_is_the_truncated_series(rag):
    """For f(y) = a y + b x: d/dx of `rag` steps is (1 + a + ... + a^(rag-1)) b."""
    a, x = 0.5, torch.tensor(2.0, requires_grad=True)
    y = unroll(lambda y: a * y + 3 * x, torch.tensor(1.0), rag)
    y.backward()
    assert x.grad.item() == pytest.approx(3 * sum(a ** k for k in range(rag)))


def random_map():
    """A contraction y -> tanh(W y + x), with W and x to differentiate."""
    torch.manual_seed(0)
    weight = torch.randn(4, 4, dtype=torch.float64) / 6
    return weight.requires_grad_(), torch.randn(2, 4, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize('graph', [lambda step: step, recomputed], ids=['plain', 'recomputed'])
def test_gradients_of_solver_and_unrolled_steps_are_the_derivatives(graph):

    def solved(weight, x):
        step = graph(lambda y: torch.tanh(y @ weight + x))
        return iterate(step, torch.zeros_like(x), 4).final, unroll(step, torch.ones_like(x), 2)

    assert torch.autograd.gradcheck(solved, random_map())


def test_many_unrolled_steps_have_the_gradient_of_the_fixed_point():
    """The implicit function theorem gives (I - df/dy)^-1 df/dx, which is solved here."""
    weight, x = random_map()

    def f(y, x):
        return torch.tanh(y @ weight + x)

    with torch.no_grad():
        fixed = iterate(lambda y: f(y, x), torch.zeros_like(x), 200).final
    towards = torch.autograd.grad(unroll(lambda y: f(y, x), fixed, 60).sum(), x)[0]
    for row, (y, own) in enumerate(zip(fixed, x)):
        of_y, of_x = torch.autograd.functional.jacobian(f, (y, own))
        implicit = torch.linalg.solve((torch.eye(4) - of_y).T, torch.ones(4, dtype=y.dtype)) @ of_x
        torch.testing.assert_close(towards[row], implicit)


def test_a_coin_is_drawn_for_each_kind_even_at_probability_zero(monkeypatch):
    calls = []
    rand = torch.rand
    monkeypatch.setattr(torch, 'rand', lambda *size: calls.append(size) or rand(*size))
    torch.manual_seed(0)
    perturbation = Perturbation([Disturbance(0.0, None), Disturbance(1.0, lambda s: s + 1)])
    assert perturbation(1) == 2
    assert calls == [(1, ), (1, )]


def test_share_of_perturbed_steps_is_the_probability():
    torch.manual_seed(0)
    perturbation = Perturbation([Disturbance(0.2, lambda n: n + 1)])
    assert iterate(lambda n: n, 0, 5000, perturb=perturbation).final == pytest.approx(1000, abs=120)


def test_relative_noise_has_the_norm_of_its_own_vector():
    torch.manual_seed(0)
    value = torch.randn(2, 3, 4096) * torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1)
    added = relative_noise(value, 0.1) - 0.9 * value
    ratio = added.norm(dim=-1) / value.norm(dim=-1)  # 0.1 * sqrt(C)
    torch.testing.assert_close(ratio, torch.full((2, 3), 6.4), rtol=0.05, atol=0)


def test_noise_does_not_depend_on_the_memory_layout():
    value = torch.randn(3, 2, 8)
    for noise in (relative_noise, additive_noise):
        torch.manual_seed(1)
        expected = noise(value.contiguous(), 0.5)
        torch.manual_seed(1)
        strided = noise(value.transpose(0, 1).contiguous().transpose(0, 1), 0.5)
        assert torch.equal(strided, expected)


def test_knows_nothing_of_detection():
    """The package imports neither mmdet nor other parts of the plugin."""
    from pathlib import Path

    import deqdet.equilibrium
    for file in Path(deqdet.equilibrium.__file__).parent.glob('*.py'):
        text = file.read_text()
        assert 'mmdet' not in text and 'from ..' not in text and 'box' not in text, file.name
