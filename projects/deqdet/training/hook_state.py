"""Saves the state of hooks in checkpoints, so that their counts continue after a resume.

mmengine saves only the state of EMAHook and CheckpointHook. Of the other hooks of mmengine and mmdet, only
EarlyStoppingHook has a state that matters: the others derive theirs from epoch and iteration.
"""

import math
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ..compat.runner_state import is_resuming, loop_at_work, unit_of
from .saving import CompleteCheckpointHook

_KEY = 'hook_states'

# Settings that decide whether a training stops. If they change, the decision is made again.
_SETTINGS = ('monitor', 'rule', 'min_delta', 'patience', 'stopping_threshold', 'check_finite')


@HOOKS.register_module()
class HookStateHook(Hook):
    """Saves the state of hooks in checkpoints, and restores it on resume.

    It covers ``EarlyStoppingHook`` and every hook with the methods ``state_dict()`` and
    ``load_state_dict(state)``. A state consists of numbers, strings, lists, dictionaries and tensors.

    A training that was stopped early is saved once more, and stays stopped.
    """

    # Runs after the hooks that stop a training.
    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds the states to a checkpoint, which is changed in place."""
        stopped = bool(getattr(loop_at_work(runner), 'stop_training', False))
        states = {}
        for name, hook in _hooks_with_state(runner):
            if isinstance(hook, EarlyStoppingHook):
                state = dict(wait_count=hook.wait_count, best_score=hook.best_score, stopped=stopped,
                             settings={setting: getattr(hook, setting) for setting in _SETTINGS})
            else:
                state = hook.state_dict()
            try:
                states[name] = _plain(state)
            except TypeError as error:
                runner.logger.warning(
                    f'the state of {name} is not saved, because a checkpoint cannot contain it: {error}')
        checkpoint[_KEY] = states

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restores the states of the hooks in a resumed run."""
        states = checkpoint.get(_KEY)
        if not isinstance(runner, Runner) or not is_resuming(runner) or not isinstance(states, Mapping):
            return
        for name, hook in _hooks_with_state(runner):
            if name not in states:
                continue
            if isinstance(hook, EarlyStoppingHook):
                _resume_early_stopping(runner, hook, states[name], checkpoint['meta'])
            else:
                hook.load_state_dict(states[name])

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Saves a training that was just stopped early."""
        if not getattr(loop_at_work(runner), 'stop_training', False):
            return
        for hook in runner.hooks:
            if isinstance(hook, CompleteCheckpointHook):
                hook.save_again(runner)


def _hooks_with_state(runner) -> List[Tuple[str, Any]]:
    found: List[Tuple[str, Any]] = []
    counts: Dict[str, int] = {}
    for hook in runner.hooks:
        if isinstance(hook, EarlyStoppingHook) \
                or hasattr(hook, 'state_dict') and hasattr(hook, 'load_state_dict'):
            kind = type(hook).__name__
            counts[kind] = counts.get(kind, 0) + 1
            found.append((kind if counts[kind] == 1 else f'{kind}.{counts[kind]}', hook))
    return found


def _resume_early_stopping(runner, hook, state, meta) -> None:
    then = state['settings']
    changed = [name for name in _SETTINGS if then.get(name) != _plain(getattr(hook, name))]
    if 'monitor' in changed or 'rule' in changed:
        runner.logger.warning(
            f'resume: EarlyStoppingHook starts again: it watches {hook.monitor} ({hook.rule}) instead of '
            f'{then.get("monitor")} ({then.get("rule")})')
        return
    hook.wait_count, hook.best_score = state['wait_count'], state['best_score']
    if not state['stopped']:
        return
    if changed:
        runner.logger.warning('resume: EarlyStoppingHook had stopped the training, which continues with '
                              f'another {", ".join(changed)}')
        return
    runner.train_loop.stop_training = True
    best = f', best {hook.best_score:.4g}' if math.isfinite(hook.best_score) else ''
    unit = unit_of(runner)
    done = meta['epoch' if unit == 'epoch' else 'iter']
    runner.logger.warning(
        f'resume: EarlyStoppingHook has stopped this training after {unit} {done} '
        f'({hook.monitor}{best}), and it stays stopped; to continue, raise its patience or remove it from '
        'custom_hooks')


def _plain(value) -> Any:
    """A state with only those types that safe loading knows."""
    if value is None or isinstance(value, (bool, int, float, str, Tensor)) \
            and type(value).__module__ in ('builtins', 'torch'):
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (int, float, str)):
        return next(kind(value) for kind in (int, float, str) if isinstance(value, kind))
    raise TypeError(f'it has a {type(value).__name__}')
