"""Supervised states, on maps that can be computed by hand."""

from typing import NamedTuple

import pytest
import torch
from deqdet.equilibrium import AFTER_START, PATH, START, Recipe, iterate


class Numbers(NamedTuple):
    """A state of B images."""

    value: torch.Tensor

    def detach(self):
        return Numbers(self.value.detach())

    @classmethod
    def join(cls, states):
        return cls(torch.stack([state.value for state in states], 1).flatten())

    def split(self, count):
        return [Numbers(part) for part in self.value.view(-1, count).unbind(1)]


def halved(state):
    return Numbers(state.value / 2)


def supervised(recipe):
    start = Numbers(torch.tensor([15.0, 31.0], requires_grad=True))

    def solve(state):
        assert not state.value.requires_grad
        with torch.no_grad():
            return iterate(halved, state, 4, keep=recipe.positions)

    return list(recipe.states(
        start, initialise=lambda state: Numbers(state.value + 1), refine=halved, solve=solve))


@pytest.mark.parametrize('together', [1, 2, 3])
def test_states_by_name_and_step(together):
    states = supervised(Recipe([1, 2, 4], unrolled=2, after_start=2, positions_per_batch=together))
    assert [(each.stage, each.step) for each in states] == [
        (START, 0), (AFTER_START, 1), (AFTER_START, 2), (PATH, 1), (PATH, 2), (PATH, 4)]
    # After each step of the path, two unrolled steps halve the values twice more.
    assert [each.state.value.tolist() for each in states] == [
        [16, 32], [8, 16], [4, 8], [2, 4], [1, 2], [0.25, 0.5]]
    assert [each.state.value.requires_grad for each in states] == [True] * 3 + [False] * 3


def test_a_start_that_is_not_supervised():
    states = supervised(Recipe([3], unrolled=1, start=False))
    assert [(each.stage, each.step, each.state.value.tolist()) for each in states] == [(PATH, 3, [1, 2])]


def test_each_state_is_computed_when_it_is_asked_for():
    """The graph of one state may be freed before the next state is computed."""
    calls = []
    states = Recipe([1]).states(Numbers(torch.zeros(1)), initialise=lambda state: state,
                                refine=lambda state: calls.append(1) or state,
                                solve=lambda state: iterate(halved, state, 1, keep=[1]))
    assert next(states).stage == START and not calls
    assert next(states).stage == AFTER_START and len(calls) == 1
