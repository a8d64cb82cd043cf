"""Watches the equilibrium while a detector trains."""

import logging
import math
from typing import Dict, Optional, Sequence, Union

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..compat.load_hooks import unwrapped
from ..equilibrium import PathObserver, PathStatistics
from ..model.heads import DEQ_SparseRoIHead, DEQDetRoIHead
from ..model.state import content_residual, position_residual, score_residual

_PARTS = dict(content=content_residual, position=position_residual, score=score_residual)

# Smaller changes by refinement are invisible: a thousandth of a box, of a score.
_STILL = 1e-3


@HOOKS.register_module()
class EquilibriumHook(Hook):
    """Logs the solving path of training, and warns if it is no longer an equilibrium.

    A deep equilibrium can collapse to its initialisation, or stop converging, and the loss does not show it.
    At an interval these scalars go to the visualiser (TensorBoard and others, through ``vis_backends``):

    - ``equilibrium/{content,position,score}_{absolute,relative}/step{t}``: how far step t moved, for steps
      without perturbation. Content has its own unit, position is in pixels of the box's sides.
    - ``equilibrium/supervised/step{t}``: sum of the losses at supervision position t.
    - ``equilibrium/perturbed_steps``: their share of the path.

    Args:
        interval (int): Iterations between two observations.
        warn_from (int): First iteration with warnings; untrained layers neither move boxes nor converge.
        patience (int): Consecutive observations that a warning needs.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 50, warn_from: int = 1000, patience: int = 3) -> None:
        self.interval = interval
        self.warn_from = warn_from
        self.patience = patience
        self._in_a_row: Dict[str, int] = {}

    def state_dict(self) -> Dict[str, int]:
        """Number of consecutive observations for each warning so far, for checkpoints."""
        return dict(self._in_a_row)

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """Continue the counts of an interrupted training, see :meth:`state_dict`."""
        self._in_a_row = dict(state)

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        """Attach the observer if this iteration is to be observed."""
        head = _head_of(runner)
        if head is not None and (runner.iter + 1) % self.interval == 0:
            head.observer = PathObserver(_PARTS)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        """Log the observations, and remove the observer."""
        head = _head_of(runner)
        if head is None or head.observer is None:
            return
        observer, head.observer = head.observer, None
        statistics = observer.statistics()
        iteration = runner.iter + 1
        runner.visualizer.add_scalars(_scalars(statistics), step=iteration)
        if iteration >= self.warn_from:
            self._warn('still', is_still(statistics),
                       'refinement no longer changes the predictions of the initialisation layer: the '
                       'equilibrium has collapsed. Lower the learning rate of the decoder, or check that '
                       'perturbation (perturb_*) and supervision_position are as published')
            self._warn('growing', is_growing(statistics.relative['content']),
                       'the steps of the solving path grow instead of shrinking: the fixed point is lost, '
                       'and more refinement steps do not help. Lower the learning rate of the decoder, or '
                       'raise its weight decay')

    def _warn(self, kind, seen, message):
        if seen is None:  # too many noisy steps: no evidence either way
            return
        self._in_a_row[kind] = self._in_a_row.get(kind, 0) + 1 if seen else 0
        # Warn once each time it begins, not as long as it lasts.
        if self._in_a_row[kind] == self.patience:
            print_log(f'EquilibriumHook: {message}', logger='current', level=logging.WARNING)


def is_still(statistics: PathStatistics) -> Optional[bool]:
    """Whether refinement changes nothing, from the first step on.

    Later steps of a converging path also change nothing, so at least one of the first steps must be known.

    Args:
        statistics (PathStatistics): A path.

    Returns:
        bool, optional: True if boxes and scores moved by at most a thousandth in every step without noise.
            None if the path does not show it.
    """
    moves = [*zip(statistics.relative['position'], statistics.absolute['score'])]
    if not any(_known(position) for position, _ in moves[:_third(moves)]):
        return None
    # The first score may be unknown where boxes are known: proposals have no scores.
    return all(move <= _STILL for step in moves for move in step if _known(move))


def is_growing(residuals: Sequence[float]) -> Optional[bool]:
    """Whether the last third of a path moves further than its first third, without noisy steps.

    Args:
        residuals (Sequence[float]): One per step, NaN if it was perturbed.

    Returns:
        bool, optional: None if the path does not show it.
    """
    third = _third(residuals)
    first, last = _mean(residuals[:third]), _mean(residuals[-third:])
    return last > first if _known(first) and _known(last) else None


def _third(steps):
    return max(len(steps) // 3, 1)


def _known(residual):
    return not math.isnan(residual)


def _mean(values):
    known = [value for value in values if _known(value)]
    return sum(known) / len(known) if known else math.nan


def _scalars(statistics: PathStatistics) -> Dict[str, float]:
    scalars = {'equilibrium/perturbed_steps': statistics.perturbed_share}
    for kind in ('absolute', 'relative'):
        for part, residuals in getattr(statistics, kind).items():
            for step, value in enumerate(residuals, start=1):
                if _known(value):
                    scalars[f'equilibrium/{part}_{kind}/step{step:02}'] = value
    for step, loss in statistics.supervised.items():
        scalars[f'equilibrium/supervised/step{step:02}'] = loss
    return scalars


def _head_of(runner) -> Union[DEQDetRoIHead, DEQ_SparseRoIHead, None]:
    head = getattr(unwrapped(runner.model), 'roi_head', None)
    return head if isinstance(head, (DEQDetRoIHead, DEQ_SparseRoIHead)) else None
