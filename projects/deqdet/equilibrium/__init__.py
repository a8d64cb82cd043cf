"""Solving, perturbing and differentiating y = f(x, y).

Nothing in this package knows what a state is: callers hand in ``step(state) -> state``. A decoder layer
of any detector gets the same solver, the same perturbation and the same gradient.
"""

from .perturbation import Disturbance, Perturbation, additive_noise, relative_noise
from .solver import SolvingPath, iterate
from .unroll import unroll

__all__ = [
    'Disturbance', 'Perturbation', 'SolvingPath', 'additive_noise', 'iterate', 'relative_noise',
    'unroll'
]
