"""Solving, perturbing and differentiating y = f(x, y).

Nothing in this package knows what a state is: callers hand in ``step(state) -> state``. A decoder layer
of any detector gets the same solver, the same perturbation and the same gradient.
"""

from .observer import PathObserver, PathStatistics, Residual
from .perturbation import Disturbance, Perturbation, additive_noise, relative_noise
from .recompute import recomputed
from .solver import SolvingPath, iterate
from .unroll import unroll

__all__ = [
    'Disturbance', 'PathObserver', 'PathStatistics', 'Perturbation', 'Residual', 'SolvingPath',
    'additive_noise', 'iterate', 'recomputed', 'relative_noise', 'unroll'
]
