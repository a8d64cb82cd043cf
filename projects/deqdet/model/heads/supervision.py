"""From supervised states to losses with published names."""

from typing import Any, Callable, Collection, Dict, Iterable, List, Mapping, Optional

from torch import Tensor

from ...equilibrium import PATH, PathObserver, Supervised
from ...errors import UsageError


def losses_of(states: Iterable[Supervised], loss: Callable[[Supervised, str], Dict[str, Tensor]], *,
              names: Mapping[str, str], observer: Optional[PathObserver[Any]]) -> Dict[str, Tensor]:
    """Losses of all supervised states.

    Args:
        states (Iterable[Supervised]): What :meth:`Recipe.states` gives.
        loss (Callable): ``(supervised, prefix) -> losses`` of one state, whose keys begin with the prefix.
        names (Mapping[str, str]): The prefix of each stage, in which ``{}`` is the step.
        observer (PathObserver, optional): Takes note of the losses on the path.

    Returns:
        dict[str, Tensor]: All losses.
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
    """Omega as far as it lies on the path, in order.

    Args:
        positions (Collection[int]): Steps, counted from 1.
        steps (int): Steps of the path.
        name (str): Names the head in messages.
        length (str): Names the argument that gives the steps.

    Raises:
        UsageError: If no position lies on the path.
    """
    supervised = [t for t in sorted(set(positions)) if 1 <= t <= steps]
    if not supervised:
        raise UsageError(f'{name}: no supervision position of {tuple(positions)} lies within 1 and '
                         f'{length}={steps}, so the refinement layer would not learn its fixed point')
    return supervised
