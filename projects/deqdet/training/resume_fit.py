"""Checks that the state of a training fits the config of the resumed run.

mmengine loads the state unchecked: if it does not fit, the run ends in a traceback or trains something else.
"""

from typing import Any, List, Mapping, Optional

from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor

from ..checkpoints.recorded_config import get, read_config
from ..compat.runner_state import optimizer_states, wrappers_of
from ..errors import UsageError

# Optimiser states in torch that have the shape of their parameter.
_LIKE_PARAMETER = ('exp_avg', 'exp_avg_sq', 'momentum_buffer', 'square_avg', 'sum')

# Settings that newer versions of torch add, or that only change how a step is computed.
_HOW = ('foreach', 'fused', 'capturable', 'differentiable', 'maximize', 'amsgrad', 'decoupled_weight_decay')


def check_state(runner: Runner, checkpoint: Mapping, recorded: Mapping, *, name: str) -> None:
    """Check that this run can use the state of training in a checkpoint.

    Args:
        runner (Runner): Has its loop and optimiser.
        checkpoint (Mapping): Content of the file, with weights that fit the model.
        recorded (Mapping): Config that it was saved with, see :func:`read_config`.
        name (str): Names the checkpoint in the message.

    Raises:
        UsageError: One line: what does not fit, and how to start from the weights.
    """
    faults = [_fault_of_progress(runner, checkpoint, recorded), _fault_of_averages(runner, checkpoint),
              _fault_of_optimizers(runner, checkpoint, recorded)]
    for fault in filter(None, faults):
        raise UsageError(f'{name} cannot be resumed with this config: {fault}; to start from its weights '
                         'instead, use --cfg-options load_from=FILE without --resume', 'resume-mismatch')


def saves_no_optimizer(runner: Runner) -> bool:
    """Whether the run's own checkpoints have no state of the optimiser."""
    return any(isinstance(hook, CheckpointHook) and not hook.save_optimizer for hook in runner.hooks)


def _fault_of_progress(runner, checkpoint, recorded) -> Optional[str]:
    meta = checkpoint['meta']
    if not isinstance(meta, Mapping) or not all(isinstance(meta.get(key), int) for key in ('epoch', 'iter')):
        return 'its epoch and iteration (meta) are missing'
    loop = get(recorded, 'train_cfg') or {}
    by_iterations = 'max_iters' in loop
    if ('max_epochs' in loop or by_iterations) \
            and by_iterations != isinstance(runner.train_loop, IterBasedTrainLoop):
        then, now = ('iterations', 'epochs') if by_iterations else ('epochs', 'iterations')
        return f'it was trained by {then}, but train_cfg counts {now}'
    return None


def _fault_of_averages(runner, checkpoint) -> Optional[str]:
    if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
        return 'its weights are moving averages, but custom_hooks has no EMAHook: add it'
    return None


def _fault_of_optimizers(runner, checkpoint, recorded) -> Optional[str]:
    if 'optimizer' not in checkpoint:
        return None if saves_no_optimizer(runner) else 'it has no state of the optimiser'
    wrappers, states = wrappers_of(runner), optimizer_states(runner, checkpoint)
    kinds = [_kind(config) for config in (recorded, read_config(runner.cfg.pretty_text))]
    for key, wrapper in wrappers.items():
        if not isinstance(get(states[key], 'param_groups'), list):
            return f'it has no state of the optimiser{"" if key is None else f" {key}"} of optim_wrapper'
        fault = _fault_of_optimizer(wrapper.optimizer, states[key], kinds if key is None else [None, None])
        if fault:
            return fault
    return None


def _kind(config) -> Optional[str]:
    kind = get(config, 'optim_wrapper', 'optimizer', 'type')
    return kind.split('.')[-1] if isinstance(kind, str) else None


def _fault_of_optimizer(optimizer, state, kinds) -> Optional[str]:
    then, now = kinds
    groups: List[Any] = optimizer.param_groups
    saved: List[Any] = state['param_groups']
    missing = [key for key, value in optimizer.defaults.items()
               if key not in _HOW and value is not None and any(key not in group for group in saved)]
    if missing or None not in kinds and then != now:
        other = f'of {then}' if then and then != now else f'without {", ".join(missing)}'
        now = now or type(optimizer).__name__
        return f'the state of its optimiser is {other}, but optim_wrapper.optimizer is {now}'
    if len(groups) != len(saved):
        return (f'its optimiser has {len(saved)} parameter groups, but this one {len(groups)}: '
                'optim_wrapper.paramwise_cfg, its constructor or the frozen layers differ')
    for number, (group, other) in enumerate(zip(groups, saved)):
        if len(group['params']) != len(other['params']):
            return (f'parameter group {number} of its optimiser has {len(other["params"])} parameters, but '
                    f'here {len(group["params"])}: optim_wrapper.paramwise_cfg or the frozen layers differ')
        for parameter, key in zip(group['params'], other['params']):
            shape = _shape_of(state.get('state', {}).get(key))
            if shape is not None and shape != tuple(parameter.shape):
                return (f'its optimiser has a state of shape {shape} for a parameter of shape '
                        f'{tuple(parameter.shape)}: optim_wrapper.paramwise_cfg or the order of parameters '
                        'differs')
    return None


def _shape_of(state) -> Optional[tuple]:
    values = [state[key] for key in _LIKE_PARAMETER if key in state] if isinstance(state, Mapping) else []
    return next((tuple(value.shape) for value in values if isinstance(value, Tensor)), None)
