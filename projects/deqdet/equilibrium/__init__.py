"""Solving, perturbing and differentiating y = f(x, y).

Nothing in this package knows what a state is: callers hand in ``step(state) -> state``. A decoder layer
of any detector gets the same solver, the same perturbation and the same gradient.
"""

from .anderson import Anderson
from .observer import PathObserver, PathStatistics, Residual
from .perturbation import Disturbance, Perturbation, additive_noise, relative_noise
from .recipe import AFTER_START, PATH, START, Recipe, Supervised
from .recompute import recomputed
from .solver import SOLVERS, Iterate, Solver, SolvingPath, iterate, register
from .stopping import RestrictedStep, Tolerance
from .unroll import unroll

# Another solver has a file of its own, and its import here.
__all__ = [
    'AFTER_START', 'PATH', 'SOLVERS', 'START', 'Anderson', 'Disturbance', 'Iterate', 'PathObserver',
    'PathStatistics', 'Perturbation', 'Recipe', 'Residual', 'RestrictedStep', 'Solver', 'SolvingPath',
    'Supervised', 'Tolerance', 'additive_noise', 'iterate', 'recomputed', 'register', 'relative_noise',
    'unroll'
]
