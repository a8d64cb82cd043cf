"""Private state of mmengine's Runner, its loops, optimisers and schedulers.

A scheduler computes a value from the last one. So a value is known only after all earlier steps.
"""

import warnings
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence

from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner, find_latest_checkpoint

# Attributes of a scheduler that change while it runs, or that follow from other attributes.
_RUNNING = ('last_step', 'verbose', 'best', 'num_bad_epochs', 'cooldown_counter', 'rule_worse', 'base_values',
            'min_values', 'cumulative_periods', 'use_betas')


def is_resuming(runner: Runner) -> bool:
    """Whether a runner takes the state of training from the checkpoint that it loads."""
    return bool(runner._resume)


def unit_of(runner: Runner) -> str:
    """The unit that the training loop of a runner counts: ``epoch`` or ``iteration``."""
    return 'epoch' if isinstance(runner.train_loop, EpochBasedTrainLoop) else 'iteration'


def loaded_file(runner: Runner) -> Optional[str]:
    """The checkpoint that a runner loads."""
    return runner._load_from or find_latest_checkpoint(runner.work_dir)


def loop_at_work(runner: Runner) -> Optional[BaseLoop]:
    """The training loop, or None if a runner only tests or validates (``train_loop`` would build one)."""
    loop = runner._train_loop
    return loop if isinstance(loop, BaseLoop) else None


def accumulation_of(wrapper: OptimWrapper) -> int:
    """Number of iterations whose gradients one step of an optimiser uses."""
    return wrapper._accumulative_counts


def advance(schedulers: Sequence[_ParamScheduler], iterations: int, epoch_ends: Collection[int]
            ) -> None:
    """Take the steps of a training from its start, as ``ParamSchedulerHook`` does.

    Args:
        schedulers (Sequence): Newly built schedulers of one optimiser; both change.
        iterations (int): Number of completed iterations.
        epoch_ends (Collection[int]): Number of completed iterations at the end of each completed epoch.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the optimiser takes no step
        for iteration in range(1, iterations + 1):
            for by_epoch in (False, True) if iteration in epoch_ends else (False, ):
                for scheduler in schedulers:
                    if scheduler.by_epoch == by_epoch:
                        _step(scheduler)
    for scheduler in schedulers:
        scheduler._last_value = [group[scheduler.param_name] for group in scheduler.optimizer.param_groups]


def saved_groups(optimizer: Mapping) -> List[dict]:
    """Parameter groups in the state of an optimiser, as schedulers see them.

    With several groups mmengine adds one more, and logs its learning rate.
    """
    more = optimizer.get('base_param_settings')
    return [*optimizer['param_groups'], *([more] if more else [])]


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


def _step(scheduler):
    following = scheduler._global_step + 1
    # Outside its range a scheduler only counts. So does one that needs metrics.
    if getattr(scheduler, 'need_val_args', False) or not scheduler.begin <= following < scheduler.end:
        scheduler._global_step = following
    else:
        scheduler.step()
