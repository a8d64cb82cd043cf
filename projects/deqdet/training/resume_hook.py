"""Compares a resumed training with the training that saved the checkpoint."""

from typing import Any, Dict, List, Mapping

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..checkpoints.recorded_config import differences, get, read_config, shown
from ..compat.runner_state import (
    accumulation_of,
    is_resuming,
    lists_of,
    optimizer_states,
    saved_state,
    unit_of,
    wrappers_of,
)
from .resume_fit import check_state
from .resume_schedule import check_schedule, renew_schedule

# Arguments of CheckpointHook that define the best checkpoint.
_BEST = ('save_best', 'rule', 'greater_keys', 'less_keys')

# Number of differing settings to show, beside the lost ones. A log needs no second config.
_SHOWN = 8


def take_new_schedule(cfg: Config) -> None:
    """Let a resumed run follow the schedule of its config (``--new-schedule``).

    Args:
        cfg (Config): The whole config, with the hooks of ``add_hooks``. Changed in place.
    """
    for hook in cfg.custom_hooks:
        if isinstance(hook, dict) and hook.get('type') == 'ResumeHook':
            hook['new_schedule'] = True


@HOOKS.register_module()
class ResumeHook(Hook):
    """Compares a run with the checkpoint that it resumes from.

    State that does not fit is refused. For each setting that differs, one line in the log reports the value
    in use: the checkpoint's (learning rate, schedule, settings of the optimiser) or the config's (others).

    Args:
        new_schedule (bool): Take learning rate, schedule and settings of the optimiser from the config, as if
            the training had used it from the start.
    """

    # Runs after CheckpointCheckHook, and before EMAHook, which changes the checkpoint.
    priority = 'VERY_HIGH'

    def __init__(self, new_schedule: bool = False) -> None:
        self.new_schedule = new_schedule

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Called by the Runner after it reads the file. With a new schedule, states in ``checkpoint`` change.

        Raises:
            UsageError: If the checkpoint does not fit the config.
        """
        # FlexibleRunner, which is no Runner, has its own optimisers.
        if not isinstance(runner, Runner) or not is_resuming(runner):
            return
        name = f'checkpoint {runner.cfg.get("load_from") or "to resume from"}'
        meta = checkpoint['meta']
        recorded = read_config(meta.get('cfg') if isinstance(meta, Mapping) else None)
        check_state(runner, checkpoint, recorded, name=name)
        for state in optimizer_states(runner, checkpoint).values():
            if state and state.get('loss_scaler') == {}:
                # State of a scaler that was off; a scaler that is on cannot load it.
                del state['loss_scaler']
        if self.new_schedule:
            lines = [renew_schedule(runner, checkpoint)]
        elif _lacks_schedule(runner, checkpoint):
            lines = [f'resume: {name} has no state of the optimiser or of its schedule',
                     renew_schedule(runner, checkpoint)]
        else:
            lines = check_schedule(runner, checkpoint, name=name)
        lines += _renewed_best(runner, checkpoint, recorded)
        for line in lines + _taken_from_config(runner, recorded):
            runner.logger.warning(line)
        _report_complete(runner, meta)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Removes functions from states of schedulers: safe loading refuses them, and OneCycleLR has one."""
        states = checkpoint.get('param_schedulers')
        if isinstance(states, dict):
            checkpoint['param_schedulers'] = {
                name: list(map(saved_state, each)) for name, each in states.items()}
        elif states:
            checkpoint['param_schedulers'] = list(map(saved_state, states))

    def before_train(self, runner: Runner) -> None:
        """Warns if a resume would lose accumulated gradients."""
        if not isinstance(runner, Runner) or not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        batches = len(runner.train_dataloader)
        for count in {accumulation_of(wrapper) for wrapper in wrappers_of(runner).values()}:
            if batches % count:
                runner.logger.warning(
                    f'optim_wrapper.accumulative_counts={count} does not divide the {batches} iterations of '
                    'an epoch: optimiser steps cross the ends of epochs, and a resume loses gradients of at '
                    f'most {count - 1} iterations')


def _lacks_schedule(runner, checkpoint) -> bool:
    schedulers = [each for part in lists_of(runner.param_schedulers).values() for each in part]
    if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
        return False
    return 'optimizer' not in checkpoint or bool(schedulers) and 'param_schedulers' not in checkpoint


def _renewed_best(runner, checkpoint, recorded) -> List[str]:
    """Forget the best score if it is of another metric or rule: mmengine keeps no name with it."""
    now, then = (_best_of(get(hooks, 'checkpoint')) for hooks in (
        runner.cfg.get('default_hooks'), recorded.get('default_hooks')))
    info = checkpoint['message_hub'].get('runtime_info', {})
    known = [key for key in info if key.startswith(('best_score', 'best_ckpt'))]
    if not recorded or now == then or not known:
        return []
    for key in known:
        del info[key]
        checkpoint['message_hub'].get('resumed_keys', {}).pop(key, None)
    return [f'resume: save_best and rule are {shown(now or None)} as in the config; they were '
            f'{shown(then or None)} in the checkpoint. The best score starts again; the old best file '
            'is kept']


def _best_of(settings) -> Dict[str, Any]:
    """The rule of each metric that selects a best checkpoint."""
    hook = CheckpointHook(**{key: settings[key] for key in _BEST if key in (settings or {})})
    return dict(zip(hook.key_indicators, hook.rules)) if hook.save_best else {}


def _taken_from_config(runner, recorded: Mapping[str, Any]) -> List[str]:
    if not recorded:
        return []
    found = differences(read_config(runner.cfg.pretty_text), recorded)
    lines = [f'resume: {each.key} is {shown(each.config)} as in the config; it was '
             f'{shown(each.checkpoint)} in the checkpoint'
             for each in found if each.key not in ('train_cfg.max_epochs', 'train_cfg.max_iters')]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f'resume: {more} more settings are those of the config'] if more > 0 else [])


def _report_complete(runner, meta) -> None:
    unit = unit_of(runner)
    done, total = (meta['epoch'], runner.max_epochs) if unit == 'epoch' else (meta['iter'], runner.max_iters)
    if done >= total:
        runner.logger.warning(
            f'resume: nothing is left to train: the checkpoint has {unit} {done} of {total}')
