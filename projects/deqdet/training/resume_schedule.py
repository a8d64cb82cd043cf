"""The schedule of a resumed training: that of its checkpoint, or a new one from its config.

mmengine always takes learning rates, settings of the optimiser and the whole schedule from the checkpoint.
"""

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

from mmengine.runner import EpochBasedTrainLoop, Runner

from ..checkpoints.recorded_config import Difference, shown
from ..compat.runner_state import (
    advance,
    lists_of,
    optimizer_states,
    saved_groups,
    saved_state,
    settings_of,
    unit_of,
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
    iterations, epoch_ends = progress_of(runner, checkpoint)
    schedulers, states = lists_of(runner.param_schedulers), optimizer_states(runner, checkpoint)
    renewed, rates = {}, []
    for key, wrapper in wrappers_of(runner).items():
        ours = schedulers.get(key, [])
        if any(map(_follows_metric, ours)):
            raise UsageError(
                f'{OPTION} cannot be used with a scheduler that follows a metric (ReduceOnPlateau), because '
                'earlier metrics are unknown; use --cfg-options load_from=FILE without --resume',
                'resume-mismatch')
        advance(ours, iterations, epoch_ends)
        renewed[key] = [saved_state(scheduler.state_dict()) for scheduler in ours]
        for saved, group in zip(saved_groups(states[key]) if states[key] else [], wrapper.param_groups):
            params = saved['params']
            saved.clear()
            saved.update({**group, 'params': params})
        rates += [group['lr'] for group in wrapper.param_groups]
    checkpoint.pop('param_schedulers', None)
    if runner.param_schedulers is not None:
        several = isinstance(runner.param_schedulers, dict)
        checkpoint['param_schedulers'] = renewed if several else renewed[None]
    unit = unit_of(runner)
    return ('resume: learning rate, schedule and settings of the optimiser are those of the config, as after '
            f'{unit} {len(epoch_ends) if unit == "epoch" else iterations} of a training with it; the '
            f'learning rate is {max(rates):.6g}')


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
    wrappers, progress = wrappers_of(runner), progress_of(runner, checkpoint)
    for number, (key, wrapper) in enumerate(wrappers.items(), 1):
        ours, theirs = schedulers.get(key, []), saved.get(key, [])
        _check_kinds(ours, theirs, way, name=name)
        for scheduler, state in zip(ours, theirs):
            if _follows_metric(scheduler) and (state['end'], scheduler.end) == (length.before, length.now):
                state['end'] = scheduler.end
        found = _scheduler_differences(ours, theirs, length, progress)
        rates, others = _group_differences(wrapper.param_groups, saved_groups(states[key]))
        moved = [state for scheduler, state in zip(ours, theirs) if scheduler.end != state['end']]
        # Longer or shorter epochs change a schedule that counts iterations, except a finished warm-up.
        unfit = found + rates if longer or resized and any(
            not state['by_epoch'] and state['end'] > state['_global_step'] for state in moved) else []
        if unfit and not metric and not any(map(_anneals, theirs)) \
                and all(state['end'] >= state['_global_step'] for state in moved) \
                and all(each.key.endswith('.end') for each in rates + found + others):
            # A scheduler without its own end ends with the training, whose length changes.
            lines = [renew_schedule(runner, checkpoint)]
            if number < len(wrappers):
                lines.append('resume: the schedule of the checkpoint is not compared for the optimisers '
                             + some_of(list(wrappers)[number:]))
            return lines
        if longer or resized:
            _check_length(unfit, theirs, length, way, name=name)
        if longer:
            lines.append(f'resume: training continues to {length.unit} {length.now} instead of '
                         f'{length.before}')
        lines += [_lost(each, '' if metric else f' ({OPTION} uses it)') for each in rates + found + others]
    if length.now < length.before:
        lines.append(f'resume: training ends with {length.unit} {length.now} instead of {length.before}')
    return lines


def progress_of(runner: Runner, checkpoint: Mapping) -> Tuple[int, range]:
    """Number of completed iterations, and this number at the end of each completed epoch.

    Epochs have the iterations that they have in the loop that continues the training, which the runner has.
    """
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return checkpoint['meta']['iter'], range(0)
    epoch, batches = checkpoint['meta']['epoch'], len(runner.train_dataloader)
    return (epoch * batches + min(_begun_batches(checkpoint), batches - 1),
            range(batches, epoch * batches + 1, batches))


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


def _scheduler_differences(ours, theirs, length, progress) -> List[Difference]:
    """Settings that differ, without those that change nothing from here on."""
    (iterations, epoch_ends), found = progress, []
    for number, (scheduler, state) in enumerate(zip(ours, theirs)):
        now, then = settings_of(scheduler.state_dict()), settings_of(state)
        done = len(epoch_ends) if scheduler.by_epoch else iterations
        finished = state['end'] <= state['_global_step'] and scheduler.end <= done
        last = length.now * (1 if scheduler.by_epoch else length.batches[1])
        without_effect = [*(('begin', 'end', 'total_iters') if finished else ()),
                          *(('end', ) if min(scheduler.end, state['end']) >= last else ())]
        found += [Difference(f'param_scheduler.{number}.{key}', _plain(value), _plain(then[key]))
                  for key, value in now.items() if not _same(value, then[key]) and key not in without_effect]
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


def _check_length(unfit, theirs, length, way, *, name):
    then, now = length.batches
    problem = f'{name} cannot be trained to {length.unit} {length.now}: its schedule is for {length.before}' \
        if length.now > length.before else \
        f'{name} cannot be trained with {now} iterations per epoch: its schedule is for {then}'
    if unfit:
        what = some_of([f'{each.key} is {each.checkpoint}, and {each.config} in the config'
                        for each in unfit], 4)
        raise UsageError(f'{problem} ({what}); {way}', 'resume-mismatch')
    ended = [f'param_scheduler.{number} ends at {state["end"]}' for number, state in enumerate(theirs)
             if _anneals(state) and state['end'] * (now if state['by_epoch'] else 1)
             <= length.before * length.batches[state['by_epoch']] < length.now * now]
    if ended:
        raise UsageError(
            f'{problem} ({some_of(ended, 4)}): set param_scheduler for {length.now} {length.unit}s in the '
            f'config, and {way}', 'resume-mismatch')


def _follows_metric(scheduler) -> bool:
    return getattr(scheduler, 'need_val_args', False)


def _anneals(state) -> bool:
    """Whether a scheduler lowers its value towards an end."""
    return any(key in state for key in ('T_max', 'power', 'total_steps')) or \
        state.get('end_factor', 1) < state.get('start_factor', 1)


def _lost(difference, hint) -> str:
    return (f'resume: {difference.key} is {shown(difference.checkpoint)} as in the checkpoint; '
            f'{shown(difference.config)} of the config is not used{hint}')
