"""Names of metrics that every logger accepts.

MLflow refuses a whole batch of values if one name has a character that it does not allow.
"""

import re
import unicodedata
from typing import Any, Dict, Mapping

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

# MLflow's limit.
_LONGEST = 250


@HOOKS.register_module()
class MetricNamesHook(Hook):
    """Passes metrics to the visualiser under names that every back end accepts, see :meth:`name_of`.

    Keys of losses and metrics do not change in the model, in the log's text and for ``save_best``.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._given: Dict[str, str] = {}

    def name_of(self, metric: str) -> str:
        """Name of a metric for visualisers, the same each time.

        It has letters, digits and ``_ - . /``: accents are dropped, other characters become ``_``. If two
        metrics would get the same name, the second one gets a number.

        Args:
            metric (str): Its name in the model, the metric or the hook.
        """
        if metric not in self._given:
            clean, taken, number = _clean(metric), set(self._given.values()), 1
            free = clean
            while free in taken:
                number += 1
                free = f'{clean[:_LONGEST - 4]}_{number}'
            self._given[metric] = free
        return self._given[metric]

    def before_run(self, runner: Runner) -> None:
        """Inserts the renaming between hooks and visualiser."""
        visualizer: Any = runner.visualizer
        # A visualiser lives longer than a runner, so the methods of an earlier runner are replaced.
        for name in ('add_scalar', 'add_scalars'):
            vars(visualizer).pop(name, None)
        scalar, scalars = visualizer.add_scalar, visualizer.add_scalars

        def add_scalar(name: str, *args: Any, **kwargs: Any) -> None:
            scalar(self.name_of(name), *args, **kwargs)

        def add_scalars(scalar_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
            scalars({self.name_of(name): value for name, value in scalar_dict.items()}, *args, **kwargs)

        visualizer.add_scalar, visualizer.add_scalars = add_scalar, add_scalars

    def state_dict(self) -> Dict[str, str]:
        """Names so far, for checkpoints."""
        return dict(self._given)

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        """Continue with the names of an interrupted training."""
        self._given = dict(state)


def _clean(name) -> str:
    plain = ''.join(letter for letter in unicodedata.normalize('NFKD', str(name))
                    if not unicodedata.combining(letter))
    plain = re.sub(r'[^A-Za-z0-9_./-]', '_', plain)
    # A name is a path in some loggers: it must not leave its folder or address a folder in two ways.
    parts = [part if part.strip('.') else '_' * max(len(part), 1) for part in plain.split('/')]
    return '/'.join(parts)[:_LONGEST]
