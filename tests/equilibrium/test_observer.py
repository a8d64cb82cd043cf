"""Watching a path."""

import math

import pytest
import torch
from deqdet.equilibrium import Disturbance, PathObserver, Perturbation, Residual, iterate


def residual(before, after):
    length = torch.tensor(abs(after - before))
    return Residual(length, length / abs(after))


def test_residuals_of_a_halving_path():
    observer = PathObserver(dict(y=residual))
    iterate(lambda y: y / 2, 8.0, 3, observe=observer)
    statistics = observer.statistics()
    assert statistics.absolute == dict(y=[4.0, 2.0, 1.0])
    assert statistics.relative == dict(y=[1.0, 1.0, 1.0])
    assert statistics.perturbed_share == 0


def test_perturbed_steps_are_counted_and_not_measured():
    observer = PathObserver(dict(y=residual))
    coins = torch.tensor([0.9, 0.1, 0.9])
    perturbation = Perturbation([Disturbance(0.5, lambda y: y + 100)]).with_coins(coins)
    iterate(lambda y: y / 2, 8.0, 3, perturb=perturbation, observe=observer)
    statistics = observer.statistics()
    assert statistics.perturbed == [False, True, False]
    assert statistics.perturbed_share == pytest.approx(1 / 3)
    assert [math.isnan(value) for value in statistics.absolute['y']] == [False, True, False]


def test_a_path_without_steps():
    observer = PathObserver(dict(y=residual))
    iterate(math.cos, 1.0, 0, observe=observer)
    assert observer.statistics().absolute == dict(y=[])
    assert observer.statistics().perturbed_share == 0


def test_losses_of_supervised_steps_have_no_graph():
    observer = PathObserver(dict(y=residual))
    iterate(lambda y: y / 2, 8.0, 3, observe=observer)
    loss = torch.tensor(2.0, requires_grad=True)
    observer.supervise(1, loss)
    observer.supervise(3, loss * 2)
    assert observer.statistics().supervised == {1: 2.0, 3: 4.0}
    assert observer.statistics().absolute == dict(y=[4.0, 2.0, 1.0])
