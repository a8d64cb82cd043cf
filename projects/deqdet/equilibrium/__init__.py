"""Solving, perturbing and differentiating y = f(x, y).

Nothing in this package knows what a state is: callers hand in ``step(state) -> state``. A decoder layer
of any detector gets the same solver, the same perturbation and the same gradient.
"""

from typing import Callable, Dict

from .anderson import anderson
from .observer import PathObserver, PathStatistics, Residual
from .perturbation import Disturbance, Perturbation, additive_noise, relative_noise
from .recompute import recomputed
from .solver import SolvingPath, iterate
from .stopping import RestrictedStep, Tolerance
from .unroll import unroll

# Names for configs. Another solver has a file of its own, the signature of `iterate`, and an entry here.
SOLVERS: Dict[str, Callable[..., SolvingPath]] = dict(iterate=iterate, anderson=anderson)

__all__ = [
    'SOLVERS', 'Disturbance', 'PathObserver', 'PathStatistics', 'Perturbation', 'Residual',
    'RestrictedStep', 'SolvingPath', 'Tolerance', 'additive_noise', 'anderson', 'iterate',
    'recomputed', 'relative_noise', 'unroll'
]
