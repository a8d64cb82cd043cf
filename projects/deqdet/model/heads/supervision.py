"""Losses of supervised states, with published names."""

from typing import Any, Callable, Collection, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import torch
from mmengine.dist import broadcast
from torch import Tensor

from ...equilibrium import PATH, PathObserver, Supervised
from ...errors import UsageError


def losses_of(states: Iterable[Supervised], loss: Callable[[Supervised, str], Dict[str, Tensor]], *,
              names: Mapping[str, str], observer: Optional[PathObserver[Any]]) -> Dict[str, Tensor]:
    """Losses of all supervised states.

    Args:
        states (Iterable[Supervised]): The states of :meth:`Recipe.states`.
        loss (Callable): ``(supervised, prefix) -> losses`` of one state; the keys begin with the prefix.
        names (Mapping[str, str]): Prefix of each stage; ``{}`` in it is the step.
        observer (PathObserver, optional): Records the losses on the path.
    """
    losses: Dict[str, Tensor] = {}
    for supervised in states:
        found = loss(supervised, names[supervised.stage].format(supervised.step))
        if observer is not None and supervised.stage == PATH:
            terms = [value for key, value in found.items() if 'loss' in key]
            observer.supervise(supervised.step, sum(terms[1:], terms[0]))
        losses.update(found)
    return losses


def on_path(positions: Collection[int], steps: int, *, name: str, length: str) -> List[int]:
    """The positions of Omega that are on the path, sorted.

    Args:
        positions (Collection[int]): Steps, counted from 1.
        steps (int): Number of steps of the path.
        name (str): Name of the head in messages.
        length (str): Name of the argument for the number of steps, in messages.

    Raises:
        UsageError: If no position is on the path.
    """
    supervised = [t for t in sorted(set(positions)) if 1 <= t <= steps]
    if not supervised:
        raise UsageError(
            f'{name}: supervision_position {tuple(positions)} has no step from 1 to {length}={steps}, so the '
            'refinement layer would not learn its fixed point; add one', 'settings-mismatch')
    return supervised


def draw_positions(positions: Sequence[int], number: Optional[int]) -> Tuple[List[int], float]:
    """Draw some positions of Omega, the same on all workers, so that none waits for a longer path.

    Args:
        positions (Sequence[int]): Omega.
        number (int, optional): Number of positions to draw; None, or as many as there are, means all.

    Returns:
        tuple: The drawn positions, sorted, and the weight that keeps the expected gradient.
    """
    if number is None or number >= len(positions):
        return list(positions), 1.0
    order = torch.randperm(len(positions))
    broadcast(order)
    return sorted(positions[index] for index in order[:number].tolist()), len(positions) / number


def weighted(losses: Dict[str, Tensor], weight: float) -> Dict[str, Tensor]:
    """The losses times a weight; accuracies beside them stay."""
    if weight == 1:
        return losses
    return {key: weight * value if 'loss' in key else value for key, value in losses.items()}
