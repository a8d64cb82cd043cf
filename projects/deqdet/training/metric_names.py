"""Names of metrics that every logger takes.

MLflow refuses a whole batch of values for one name with other characters than it knows.
"""

import re
import unicodedata
from typing import Any, Dict, Mapping

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

# MLflow's limit.
_LONGEST = 250


class MetricNames:
    """Names for visualisers: letters, digits and ``_ - . /``, another one for each metric.

    Accents are dropped, other characters become ``_``. Of two names that would become the same the second one
    gets a number.
    """

    def __init__(self) -> None:
        self._given: Dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """Name of a metric for visualisers, the same each time.

        Args:
            name (str): As the model, the metric or the hook calls it.
        """
        if name not in self._given:
            self._given[name] = self._free(_clean(name))
        return self._given[name]

    def state_dict(self) -> Dict[str, str]:
        """Names so far, for checkpoints."""
        return dict(self._given)

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        """Go on with the names of an interrupted training."""
        self._given = dict(state)

    def _free(self, name):
        taken, free, number = set(self._given.values()), name, 1
        while free in taken:
            number += 1
            free = f'{name[:_LONGEST - 4]}_{number}'
        return free


@HOOKS.register_module()
class MetricNamesHook(Hook):
    """Hands metrics to the visualiser under names that every back end takes, see :class:`MetricNames`.

    Keys of losses and metrics stay in the model, in the log's text and for ``save_best``.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._names = MetricNames()

    def before_run(self, runner: Runner) -> None:
        """Puts the names between hooks and visualiser."""
        visualizer = runner.visualizer
        # A visualiser lives longer than a runner: what an earlier one has put there is replaced.
        for method, kind in (('add_scalar', _AddScalar), ('add_scalars', _AddScalars)):
            add = getattr(visualizer, method)
            setattr(visualizer, method, kind(getattr(add, 'add', add), self._names))

    def state_dict(self) -> Dict[str, str]:
        """Names so far, for checkpoints."""
        return self._names.state_dict()

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        """Go on with the names of an interrupted training."""
        self._names.load_state_dict(state)


class _AddScalar:

    def __init__(self, add: Any, names: MetricNames) -> None:
        self.add = add
        self.names = names

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.add(self.names(name), *args, **kwargs)


class _AddScalars(_AddScalar):

    def __call__(self, scalar_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:  # type: ignore
        self.add({self.names(name): value for name, value in scalar_dict.items()}, *args, **kwargs)


def _clean(name) -> str:
    plain = ''.join(letter for letter in unicodedata.normalize('NFKD', str(name))
                    if not unicodedata.combining(letter))
    plain = re.sub(r'[^A-Za-z0-9_./-]', '_', plain)
    # A name is a path in some loggers: it may neither leave its folder nor name one twice.
    parts = [part if part.strip('.') else '_' * max(len(part), 1) for part in plain.split('/')]
    return '/'.join(parts)[:_LONGEST]
