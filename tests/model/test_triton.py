"""The Triton back end of the sampling: interpreted on a CPU, compiled on a GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from deqdet.model.sampling import make_pyramid
from refusals import refused
from small_model import ROOT, build, losses_of, total

INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
installed = pytest.mark.skipif(not find_spec('triton'), reason='triton is not installed')
interpreted = pytest.mark.skipif(not INTERPRETED, reason='in the process of test_in_the_interpreter')
compiled = pytest.mark.skipif(INTERPRETED, reason='triton is interpreted in this process')


def value_and_gradients(back_end, features, points, strides):
    """Value and gradients of a sum with random weights."""
    leaves = [leaf.clone().requires_grad_() for leaf in (*features, points)]
    value = make_pyramid(leaves[:-1], strides, back_end).sample(leaves[-1])
    weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)
    return (value, *torch.autograd.grad((value * weight).sum(), leaves))


def random_case(batch, channels, height, queries, groups, num_points):
    """Features of four levels, and points, some outside the image."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(batch, channels, height >> level, (height >> level) + 1, generator=generator)
                for level in range(4)]
    points = torch.rand(batch, queries, groups, num_points, 3, generator=generator)
    return features, points * torch.tensor([5.0 * height, 5.0 * height, 6.0]), (4, 8, 16, 32)


@installed
@compiled
def test_in_the_interpreter():
    """Runs the tests here and in test_sampling.py: Triton reads the variable when it is imported."""
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-k', 'triton',
         'tests/model/test_sampling.py', 'tests/model/test_triton.py'],
        cwd=ROOT, env=dict(os.environ, TRITON_INTERPRET='1'), stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout


@interpreted
def test_points_of_several_programs_and_an_odd_number_of_channels(monkeypatch):
    # With 3 channels per group a program takes 4 points; the last one takes 2.
    monkeypatch.setattr('deqdet.model.sampling.triton_kernels.BLOCK_VALUES', 16)
    case = random_case(batch=2, channels=6, height=16, queries=3, groups=2, num_points=3)
    torch.testing.assert_close(
        value_and_gradients('triton', *case), value_and_gradients('grid', *case), atol=1e-4, rtol=1e-4)


@interpreted
def test_a_head_has_the_same_losses_and_gradients(monkeypatch):
    # The interpreter is slow for each program, so use few.
    monkeypatch.setattr('deqdet.model.sampling.triton_kernels.BLOCK_VALUES', 2 ** 14)
    found = []
    for sampling in ('triton', 'grid'):
        model = build(sampling=sampling, refinement_steps=2, supervision_position=[2]).train()
        losses = losses_of(model)
        total(losses).backward()
        found.append((losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (losses, gradients), (expected_losses, expected_gradients) = found
    torch.testing.assert_close(losses, expected_losses, atol=1e-3, rtol=1e-3)
    assert gradients.keys() == expected_gradients.keys()
    for name, expected in expected_gradients.items():
        assert (gradients[name] - expected).norm() <= 1e-3 * expected.norm() + 1e-5, name


def test_without_triton(monkeypatch):
    monkeypatch.delitem(sys.modules, 'deqdet.model.sampling.triton_kernels', raising=False)
    monkeypatch.setitem(sys.modules, 'triton', None)
    with refused('missing-package', 'sampling="triton"', 'pip install triton', 'sampling="auto"'):
        make_pyramid([torch.zeros(1, 1, 2, 2)], (4, ), 'triton')


@installed
@compiled
def test_on_a_cpu_it_names_what_to_use():
    with refused('no-device', 'sampling="triton"', 'sampling="auto"'):
        make_pyramid([torch.zeros(1, 1, 2, 2)], (4, ), 'triton')


@installed
@compiled
@pytest.mark.skipif(not torch.cuda.is_available(), reason='the compiled kernels need a GPU')
@pytest.mark.parametrize('channels', [256, 12])
def test_on_a_gpu(channels):
    features, points, strides = random_case(
        batch=2, channels=channels, height=64, queries=100, groups=4, num_points=32)
    case = [level.cuda() for level in features], points.cuda(), strides
    found, expected = value_and_gradients('triton', *case), value_and_gradients('grid', *case)
    for one, other in zip(found, expected):
        # Not elementwise: atomic adds have no fixed order, and a derivative jumps at cell centres.
        assert (one - other).norm() <= 1e-4 * other.norm()
