"""Follows schedules of mmengine without training.

Its schedulers compute a value from the last one. So a value is known only after all earlier steps.
"""

import copy
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.runner import Runner

# Attributes of a scheduler that change while it runs, or that follow from other attributes.
_RUNNING = ('last_step', 'verbose', 'best', 'num_bad_epochs', 'cooldown_counter', 'rule_worse', 'base_values',
            'min_values', 'cumulative_periods', 'use_betas')

# Lists with one value for each parameter group.
_BY_GROUP = ('base_values', 'min_values', '_last_value')


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        iterations (int): Number of completed iterations.
        epoch_ends (tuple[int]): Number of completed iterations at the end of each completed epoch.
    """

    iterations: int
    epoch_ends: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """Schedulers and their parameter groups.

    Attributes:
        schedulers (list): Schedulers of mmengine, in their order. They belong to this object.
        groups (list[dict]): Settings of each parameter group, without parameters.
    """

    schedulers: List[Any]
    groups: List[Dict[str, Any]]

    def advance(self, progress: Progress) -> None:
        """Take the steps of a training from its start, as ``ParamSchedulerHook`` does."""
        ends = set(progress.epoch_ends)
        for iteration in range(1, progress.iterations + 1):
            self.step(ends_epoch=iteration in ends)

    def step(self, *, ends_epoch: bool) -> None:
        """Take the steps at the end of an iteration."""
        for by_epoch in (False, True) if ends_epoch else (False, ):
            for scheduler in self.schedulers:
                if scheduler.by_epoch == by_epoch:
                    _step(scheduler)

    def states(self) -> List[dict]:
        """State dict of each scheduler, as a checkpoint holds it."""
        for scheduler in self.schedulers:
            scheduler._last_value = [group[scheduler.param_name] for group in self.groups]
        return [saved_state(scheduler.state_dict()) for scheduler in self.schedulers]


def configured_schedule(wrapper: OptimWrapper, schedulers: Sequence[_ParamScheduler]) -> Schedule:
    """A copy of newly built schedulers, at their start, and of the groups of their optimiser."""
    return _schedule(schedulers, [_settings(group) for group in wrapper.param_groups])


def saved_schedule(schedulers: Sequence[_ParamScheduler], states: Sequence[Mapping],
                   groups: Sequence[Mapping]) -> Schedule:
    """Copies of schedulers with the state of a checkpoint.

    Args:
        schedulers (Sequence): Schedulers of the types that the checkpoint was saved with.
        states (Sequence[Mapping]): Their state dicts.
        groups (Sequence[Mapping]): Parameter groups of the checkpoint, see :func:`saved_groups`.
    """
    schedule = _schedule(schedulers, [_settings(group) for group in groups])
    for scheduler, state in zip(schedule.schedulers, states):
        scheduler.load_state_dict(dict(state))
    return schedule


def saved_groups(optimizer: Mapping) -> List[Mapping]:
    """Parameter groups in the state of an optimiser, as schedulers see them.

    With several groups mmengine adds one more, and logs its learning rate.
    """
    more = optimizer.get('base_param_settings')
    return [*optimizer['param_groups'], *([more] if more else [])]


def narrowed(schedules: Sequence[Schedule]) -> Tuple[List[Schedule], List[int]]:
    """Schedules with one parameter group for all equal ones: a detector has hundreds of equal groups.

    Args:
        schedules (Sequence[Schedule]): Schedules with the same number of groups.

    Returns:
        tuple: Copies of the schedules, and for each group the number of the group that represents it.
    """
    seen: Dict[str, int] = {}
    picks, places = [], []
    for number, groups in enumerate(zip(*[schedule.groups for schedule in schedules])):
        key = repr([sorted(group.items()) for group in groups])
        if key not in seen:
            seen[key] = len(picks)
            picks.append(number)
        places.append(seen[key])
    narrow = []
    for schedule in schedules:
        copied = _schedule(schedule.schedulers, [dict(schedule.groups[number]) for number in picks])
        for scheduler in copied.schedulers:
            for name in _BY_GROUP:
                each = getattr(scheduler, name, None)
                if isinstance(each, list) and len(each) == len(schedule.groups):
                    setattr(scheduler, name, [each[number] for number in picks])
        narrow.append(copied)
    return narrow, places


def widened(narrow: Schedule, places: Sequence[int], schedule: Schedule) -> Schedule:
    """The inverse of :func:`narrowed`, after the narrow schedule was advanced.

    Args:
        narrow (Schedule): The schedule on the groups that differ.
        places (Sequence[int]): For each group the number of the group that represents it.
        schedule (Schedule): The schedule on all groups, before it was narrowed.
    """
    wide = _schedule(narrow.schedulers, [dict(narrow.groups[place]) for place in places])
    for scheduler, before in zip(wide.schedulers, schedule.schedulers):
        for name in _BY_GROUP:
            if hasattr(before, name):
                setattr(scheduler, name, getattr(before, name))
    return wide


def settings_of(state: Mapping) -> Dict[str, Any]:
    """Settings of a scheduler that come from its config, without what changes while it runs."""
    return {name: value for name, value in state.items()
            if not name.startswith('_') and name not in _RUNNING and not callable(value)}


def saved_state(state: Mapping) -> Dict[str, Any]:
    """A scheduler's state without functions, which safe loading refuses; the scheduler itself has them."""
    return {name: value for name, value in state.items() if not callable(value)}


def lists_of(parts: Any) -> Dict[Optional[str], list]:
    """Schedulers, or their states, by the name of their optimiser; None is the name of a single one."""
    if isinstance(parts, Mapping):
        return {name: list(each) for name, each in parts.items()}
    return {None: list(parts or [])}


def wrappers_of(runner: Runner) -> Dict[Optional[str], OptimWrapper]:
    """Optimisers of a runner by name; None is the name of a single one."""
    wrapper = runner.optim_wrapper
    return dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else {None: wrapper}


def optimizer_states(runner: Runner, checkpoint: Mapping) -> Dict[Optional[str], Any]:
    """States of the optimisers in a checkpoint, by the names of :func:`wrappers_of`."""
    state = checkpoint.get('optimizer')
    if not isinstance(runner.optim_wrapper, OptimWrapperDict):
        return {None: state}
    return {name: (state or {}).get(name) for name in wrappers_of(runner)}


def _schedule(schedulers, groups) -> Schedule:
    stand_in = _Groups(groups)
    copies = []
    for scheduler in schedulers:
        copied = copy.copy(scheduler)
        copied.optimizer = stand_in
        copies.append(copied)
    return Schedule(copies, groups)


def _step(scheduler):
    following = scheduler._global_step + 1
    # Outside its range a scheduler only counts. So does one that needs metrics.
    if getattr(scheduler, 'need_val_args', False) or not scheduler.begin <= following < scheduler.end:
        scheduler._global_step = following
    else:
        scheduler.step()


def _settings(group: Mapping) -> Dict[str, Any]:
    return {name: value for name, value in group.items() if name != 'params'}


class _Groups:
    """Replaces an optimiser in schedulers, which check that its steps are counted."""

    def __init__(self, groups: List[dict]) -> None:
        self.param_groups = groups
        self._global_step = 1

    def step(self) -> None:
        """Only the mark below is used."""

    step._with_counter = True  # type: ignore[attr-defined]


def values(schedule: Schedule, ends: Iterator[bool], names: Sequence[str]) -> Iterator[List[Tuple]]:
    """Values of each group at the next iterations.

    Args:
        schedule (Schedule): The schedule at the current place. It is advanced.
        ends (Iterator[bool]): Whether each iteration is the last of its epoch.
        names (Sequence[str]): Settings of the groups.

    Yields:
        list[tuple]: One for each group.
    """
    for ends_epoch in ends:
        yield [tuple(group.get(name) for name in names) for group in schedule.groups]
        schedule.step(ends_epoch=ends_epoch)
