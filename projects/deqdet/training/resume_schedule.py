"""The schedule of a resumed training: that of its checkpoint, or a new one from its config.

mmengine always takes learning rates, settings of the optimiser and the whole schedule from the checkpoint.
"""

import math
from itertools import islice
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from mmengine.runner import EpochBasedTrainLoop, Runner

from ..checkpoints.recorded_config import Difference, shown
from ..compat.runner_state import unit_of
from ..compat.schedulers import (
    Progress,
    configured_schedule,
    lists_of,
    narrowed,
    optimizer_states,
    saved_groups,
    saved_schedule,
    settings_of,
    values,
    widened,
    wrappers_of,
)
from ..data.findings import some_of
from ..errors import UsageError

OPTION = '--resume --new-schedule'

# Settings of parameter groups that change how a step is computed, not its result.
_HOW = ('params', 'foreach', 'fused', 'capturable', 'differentiable', 'decoupled_weight_decay')

# Rounding differences of numbers that were computed in another order.
_TOLERANCE = 1e-6


class Length(NamedTuple):
    """Length of a training in its checkpoint (the config's if unknown) and in the config."""

    unit: str  # epoch or iteration
    before: int
    now: int
    batches: Tuple[int, int] = (1, 1)  # iterations per epoch, before and now; 1 for the unit iteration


class Comparison(NamedTuple):
    """Whether the schedules of checkpoint and config are equal from here on.

    Also the lowest and highest learning rate of the checkpoint's schedule in the added part of the training.
    """

    equal: bool
    added: Optional[Tuple[float, float]]


def renew_schedule(runner: Runner, checkpoint: dict) -> str:
    """Take schedule, learning rates and settings of the optimiser from the config.

    They are those of a training that had this config from its start.

    Args:
        runner (Runner): Has its loop, its optimiser and its schedulers, at their start.
        checkpoint (dict): Content of the file. State of schedulers and settings of the optimiser change.

    Returns:
        str: What was done.

    Raises:
        UsageError: If a scheduler follows a metric, because its past values are unknown.
    """
    progress = progress_of(runner, checkpoint)
    schedulers, states = lists_of(runner.param_schedulers), optimizer_states(runner, checkpoint)
    renewed, rates = {}, []
    for key, wrapper in wrappers_of(runner).items():
        if any(map(_follows_metric, schedulers.get(key, []))):
            raise UsageError(
                f'{OPTION} cannot be used with a scheduler that follows a metric (ReduceOnPlateau), because '
                'earlier metrics are unknown; use --cfg-options load_from=FILE without --resume',
                'resume-mismatch')
        start = configured_schedule(wrapper, schedulers.get(key, []))
        (narrow, ), places = narrowed([start])
        narrow.advance(progress)
        schedule = widened(narrow, places, start)
        renewed[key] = schedule.states()
        _set_groups(wrapper, states[key], schedule.groups)
        rates += [group['lr'] for group in schedule.groups]
    checkpoint.pop('param_schedulers', None)
    if runner.param_schedulers is not None:
        several = isinstance(runner.param_schedulers, dict)
        checkpoint['param_schedulers'] = renewed if several else renewed[None]
    unit = unit_of(runner)
    done = len(progress.epoch_ends) if unit == 'epoch' else progress.iterations
    return ('resume: learning rate, schedule and settings of the optimiser are those of the config, as after '
            f'{unit} {done} of a training with it; the learning rate is {max(rates):.6g}')


def check_schedule(runner: Runner, checkpoint: dict, *, name: str) -> List[str]:
    """Settings of the config that the checkpoint's schedule and optimiser settings override.

    Args:
        runner (Runner): Has its loop, its optimiser and its schedulers, at their start.
        checkpoint (dict): Content of the file, with states that fit the run's optimiser. Changed in place if
            only ends of its schedulers differ.
        name (str): Names the checkpoint in the message.

    Returns:
        list[str]: One line for each lost setting.

    Raises:
        UsageError: If the two contradict each other: schedulers of other kinds, or more epochs or another
            number of iterations per epoch, with a schedule that has ended or differs from the config's.
    """
    length = _length(runner, checkpoint)
    longer, resized = length.now > length.before, len(set(length.batches)) > 1
    schedulers, saved = lists_of(runner.param_schedulers), lists_of(checkpoint.get('param_schedulers'))
    states = optimizer_states(runner, checkpoint)
    metric = any(_follows_metric(scheduler) for part in schedulers.values() for scheduler in part)
    way = 'use only the weights (--cfg-options load_from=FILE without --resume), because a schedule that ' \
        'follows a metric cannot be renewed' if metric else \
        f'use schedule and learning rate of the config with {OPTION}'
    lines: List[str] = []
    wrappers = wrappers_of(runner)
    for number, (key, wrapper) in enumerate(wrappers.items(), 1):
        ours, theirs = schedulers.get(key, []), saved.get(key, [])
        _check_kinds(ours, theirs, way, name=name)
        for scheduler, state in zip(ours, theirs):
            if _follows_metric(scheduler) and (state['end'], scheduler.end) == (length.before, length.now):
                state['end'] = scheduler.end
        groups = saved_groups(states[key])
        found = _scheduler_differences(ours, theirs)
        rates, others = _group_differences(wrapper.param_groups, groups)
        if found or rates or longer or resized:
            schedules = [configured_schedule(wrapper, ours), saved_schedule(ours, theirs, groups)]
            result = _compare(runner, checkpoint, schedules, length)
            # Values that follow a metric are unknown, so settings are compared.
            equal = not found + rates if metric else result.equal
            if equal and not rates:
                found = []
            moved = [state for scheduler, state in zip(ours, theirs) if scheduler.end != state['end']]
            # Longer or shorter epochs change a schedule that counts iterations, except a finished warm-up.
            unfit = not equal and (longer or resized and any(
                not state['by_epoch'] and state['end'] > state['_global_step'] for state in moved))
            if unfit and not metric and not any(map(_anneals, theirs)) \
                    and all(state['end'] >= state['_global_step'] for state in moved) \
                    and all(each.key.endswith('.end') for each in rates + found + others):
                # A scheduler without its own end ends with the training, whose length changes.
                lines = [renew_schedule(runner, checkpoint)]
                if number < len(wrappers):
                    lines.append('resume: the schedule of the checkpoint is not compared for the optimisers '
                                 + some_of(list(wrappers)[number:]))
                return lines
            _check_length(result, found + rates if unfit else [], theirs, length, runner, way, name=name)
            if longer:
                low, high = result.added or (math.nan, math.nan)
                lines.append(
                    f'resume: training continues to {length.unit} {length.now} instead of {length.before}'
                    + ('' if metric else f', with learning rates from {high:.4g} to {low:.4g}'))
        lines += [_lost(each, '' if metric else f' ({OPTION} uses it)') for each in rates + found + others]
    if length.now < length.before:
        lines.append(f'resume: training ends with {length.unit} {length.now} instead of {length.before}')
    return lines


def progress_of(runner: Runner, checkpoint: Mapping) -> Progress:
    """How far a training was when its checkpoint was saved; the runner has the loop that continues it.

    Completed epochs count with the iterations that they have in this loop.
    """
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return Progress(checkpoint['meta']['iter'])
    epoch, batches = checkpoint['meta']['epoch'], len(runner.train_dataloader)
    return Progress(epoch * batches + min(_begun_batches(checkpoint), batches - 1),
                    tuple(batches * number for number in range(1, epoch + 1)))


def _begun_batches(checkpoint) -> int:
    """Number of iterations in an incomplete epoch."""
    start = _info(checkpoint).get('epoch_start')
    epoch, iteration = checkpoint['meta']['epoch'], checkpoint['meta']['iter']
    return max(iteration - start['iter'], 0) if start and start['epoch'] == epoch else 0


def _info(checkpoint) -> Mapping:
    return checkpoint['message_hub'].get('runtime_info', {})


def _length(runner, checkpoint) -> Length:
    unit = unit_of(runner)
    now = runner.max_epochs if unit == 'epoch' else runner.max_iters
    before = _info(checkpoint).get('max_epochs' if unit == 'epoch' else 'max_iters')
    before = before if isinstance(before, int) else now
    if unit == 'iteration':
        return Length(unit, before, now)
    batches, iterations = len(runner.train_dataloader), _info(checkpoint).get('max_iters')
    then = iterations // max(before, 1) if isinstance(iterations, int) else batches
    return Length(unit, before, now, (then, batches))


def _check_kinds(ours, theirs, way, *, name):
    kinds = [set(settings_of(scheduler.state_dict())) for scheduler in ours]
    if len(ours) == len(theirs) and kinds == [set(settings_of(state)) for state in theirs] \
            and [each.param_name for each in ours] == [state['param_name'] for state in theirs]:
        return
    now, then = ('; '.join(words) or 'none' for words in (
        [type(scheduler).__name__ for scheduler in ours], [_in_words(state) for state in theirs]))
    raise UsageError(
        f'{name} cannot be resumed with the param_scheduler of this config ({now}), because it has another '
        f'one ({then}): restore it, or {way}', 'resume-mismatch')


def _in_words(state) -> str:
    return ', '.join(f'{key}={_plain(value)}' for key, value in settings_of(state).items()
                     if key not in ('param_name', 'by_epoch', 'begin', 'end'))


def _scheduler_differences(ours, theirs) -> List[Difference]:
    found = []
    for number, (scheduler, state) in enumerate(zip(ours, theirs)):
        now, then = settings_of(scheduler.state_dict()), settings_of(state)
        found += [Difference(f'param_scheduler.{number}.{key}', _plain(value), _plain(then[key]))
                  for key, value in now.items() if not _same(value, then[key])]
    return found


def _group_differences(ours, theirs) -> Tuple[List[Difference], List[Difference]]:
    """Different learning rates, and other settings; of each, one group's values and the number of groups."""
    found: Dict[str, List[Tuple[Any, Any]]] = {}
    for group, other in zip(ours, theirs):
        for key in group:
            if key in _HOW or key.startswith(('initial_', 'max_', 'min_')) \
                    or key == 'betas' and 'momentum' in group:
                continue
            # Settings that a schedule changes are compared at its start.
            first = f'initial_{key}'
            now, then = (group.get(first, group[key]), other.get(first, other.get(key)))
            if key in other and not _same(now, then):
                found.setdefault(key, []).append((now, then))
    each = {key: Difference(_key(key, len(pairs)), *max(pairs, key=_size)) for key, pairs in found.items()}
    return ([one for key, one in each.items() if key == 'lr'],
            [one for key, one in each.items() if key != 'lr'])


def _key(name, groups) -> str:
    return f'optim_wrapper.optimizer.{name}' + (f' ({groups} parameter groups)' if groups > 1 else '')


def _size(pair) -> float:
    return pair[0] if isinstance(pair[0], (int, float)) else 0


def _same(one, other) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)) or isinstance(other, float) \
            and isinstance(one, int):
        return math.isclose(one, other, rel_tol=_TOLERANCE)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _plain(value) -> Any:
    """Show milestones as the list that the user wrote; mmengine keeps counts."""
    return sorted(value) if isinstance(value, dict) and all(isinstance(key, int) for key in value) else value


def _compare(runner, checkpoint, schedules, length) -> Comparison:
    progress = progress_of(runner, checkpoint)
    (ours, theirs), _ = narrowed(schedules)
    ours.advance(progress)
    names = sorted({'lr', *(scheduler.param_name for scheduler in ours.schedulers)})
    total, (then, batches) = _iterations(runner, checkpoint, length.now), length.batches
    old = len(_iterations(runner, checkpoint, length.before)) * then // batches
    equal, added = True, None
    ways = [values(schedule, iter(total), names) for schedule in (ours, theirs)]
    for number, (now, then) in enumerate(zip(*ways)):
        equal = equal and all(map(_same, now, then))
        if number >= old:
            rate = max(each[names.index('lr')] for each in then)
            added = (min(rate, added[0]), max(rate, added[1])) if added else (rate, rate)
        elif not equal and old >= len(total):
            break
    return Comparison(equal, added)


def _iterations(runner, checkpoint, length) -> List[bool]:
    """For each iteration to come, whether it is the last of its epoch."""
    return list(_iterate(runner.train_loop, checkpoint, length))


def _iterate(loop, checkpoint, length) -> Iterator[bool]:
    if not isinstance(loop, EpochBasedTrainLoop):
        yield from [False] * max(length - checkpoint['meta']['iter'], 0)
        return
    done = min(_begun_batches(checkpoint), len(loop.dataloader) - 1)
    for epoch in range(checkpoint['meta']['epoch'], length):
        batches = (number == len(loop.dataloader) - 1 for number in range(len(loop.dataloader)))
        yield from islice(batches, done if epoch == checkpoint['meta']['epoch'] else 0, None)


def _check_length(result, unfit, theirs, length, runner, way, *, name):
    then, now = length.batches
    problem = f'{name} cannot be trained to {length.unit} {length.now}: its schedule is for {length.before}' \
        if length.now > length.before else \
        f'{name} cannot be trained with {now} iterations per epoch: its schedule is for {then}'
    if unfit:
        what = some_of([f'{each.key} is {each.checkpoint}, and {each.config} in the config'
                        for each in unfit], 4)
        raise UsageError(f'{problem} ({what}); {way}', 'resume-mismatch')
    ended = [f'param_scheduler.{number} ends at {state["end"]}' for number, state in enumerate(theirs)
             if _anneals(state) and _in_iterations(state, 'end', runner)
             <= length.before * length.batches[state['by_epoch']] < length.now * now]
    if ended and result.added:
        raise UsageError(
            f'{problem} ({some_of(ended, 4)}), and the learning rate would stay at {result.added[1]:.3g}: '
            f'set param_scheduler for {length.now} {length.unit}s in the config, and {way}',
            'resume-mismatch')


def _follows_metric(scheduler) -> bool:
    return getattr(scheduler, 'need_val_args', False)


def _anneals(state) -> bool:
    """Whether a scheduler lowers its value towards an end."""
    return any(key in state for key in ('T_max', 'power', 'total_steps')) or \
        state.get('end_factor', 1) < state.get('start_factor', 1)


def _in_iterations(part, key, runner) -> float:
    return part[key] * (len(runner.train_dataloader) if part['by_epoch'] else 1)


def _lost(difference, hint) -> str:
    return (f'resume: {difference.key} is {shown(difference.checkpoint)} as in the checkpoint; '
            f'{shown(difference.config)} of the config is not used{hint}')


def _set_groups(wrapper, state: Optional[dict], groups) -> None:
    """Write the settings of the groups into an optimiser's state or, if it has none, into the optimiser."""
    if not state:
        for group, settings in zip(wrapper.param_groups, groups):
            group.update(settings)
        return
    state['param_groups'] = [{**settings, 'params': group['params']}
                             for settings, group in zip(groups, state['param_groups'])]
    more = groups[len(state['param_groups']):]
    if more:
        state['base_param_settings'] = {**more[0], 'params': wrapper.base_param_settings['params']}
