"""Solving, perturbing and differentiating y = f(x, y).

This package does not depend on the kind of state: callers pass ``step(state) -> state``. So decoder layers of
all detectors share the same solvers, perturbation and gradient.
"""

from .anderson import Anderson
from .observer import PathObserver, PathStatistics, Residual
from .perturbation import Disturbance, Perturbation, additive_noise, relative_noise
from .recipe import AFTER_START, PATH, START, Recipe, Supervised
from .recompute import recomputed
from .solver import SOLVERS, Iterate, Solver, SolvingPath, iterate, register
from .stopping import RestrictedStep, Tolerance
from .unroll import unroll

# Each new solver gets its own file, and an import above.
__all__ = [
    'AFTER_START', 'PATH', 'SOLVERS', 'START', 'Anderson', 'Disturbance', 'Iterate', 'PathObserver',
    'PathStatistics', 'Perturbation', 'Recipe', 'Residual', 'RestrictedStep', 'Solver', 'SolvingPath',
    'Supervised', 'Tolerance', 'additive_noise', 'iterate', 'recomputed', 'register', 'relative_noise',
    'unroll'
]
