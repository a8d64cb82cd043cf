"""The config that a checkpoint was saved with, read without running it."""

import ast
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

# Parts of a config that define the training. After a resume, those of the run's own config are used.
_SECTIONS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'auto_scale_lr')

# Settings of them that change no result, or that are compared as state of the optimiser.
_LEFT_OUT = ('optim_wrapper.optimizer.', 'optim_wrapper.paramwise_cfg.', 'train_dataloader.num_workers',
             'train_dataloader.persistent_workers', 'train_dataloader.pin_memory', 'train_cfg.type',
             'train_dataloader.prefetch_factor', 'train_cfg.val_', 'train_cfg.dynamic_intervals')

# Hooks that change the training.
_HOOKS = ('EMAHook', 'EarlyStoppingHook', 'MeanTeacherHook', 'PipelineSwitchHook', 'YOLOXModeSwitchHook')


@dataclass(frozen=True)
class Difference:
    """A setting with different values in a config and in a checkpoint; None if it is not set.

    Attributes:
        key (str): Config key.
        config (Any): Its value in the config.
        checkpoint (Any): Its value in the checkpoint.
    """

    key: str
    config: Any
    checkpoint: Any


def read_config(text: Any) -> Dict[str, Any]:
    """Settings of a config, read from its text in a checkpoint.

    Args:
        text (Any): Python assignments, as mmengine writes them. None of it is run.

    Returns:
        dict: The settings that can be read, calls other than ``dict(...)`` as strings. Empty for other texts.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        return {}
    return {target.id: _value(node.value) for node in tree.body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)}


def differences(config: Mapping, recorded: Mapping) -> List[Difference]:
    """Settings that differ between the configs of a run and of a checkpoint, see :func:`read_config`.

    Settings that the state of a checkpoint overrides are left out.
    """
    now, then = _flat(_sections(config)), _flat(_sections(recorded))
    keys = {**then, **now}
    # A part that is empty on one side differs in the settings that the other side has.
    filled = {key for key in keys if now.get(key, then.get(key)) in ({}, [])
              and any(other.startswith(f'{key}.') for other in keys)}
    return [Difference(key, now.get(key), then.get(key)) for key in keys
            if now.get(key) != then.get(key) and not key.startswith(_LEFT_OUT) and key not in filled]


def get(config: Any, *keys: str) -> Optional[Any]:
    """A nested setting, or None if a part of the path is missing."""
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def shown(value: Any) -> str:
    """A setting in a message."""
    text = 'not set' if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + '...'


def hooks_of(config: Mapping) -> Dict[str, dict]:
    """Hooks of a config by the name of their type."""
    custom = config.get('custom_hooks')
    hooks = [*(get(config, 'default_hooks') or {}).values(), *(custom if isinstance(custom, list) else [])]
    return {str(hook.get('type')).split('.')[-1]: hook for hook in hooks if isinstance(hook, dict)}


def _sections(config):
    parts = {name: config[name] for name in _SECTIONS if config.get(name) is not None}
    hooks = {name: hook for name, hook in hooks_of(config).items() if name in _HOOKS}
    return {**parts, 'custom_hooks': hooks}


def _flat(value, key='') -> Dict[str, Any]:
    if isinstance(value, (dict, list, tuple)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: each for number, part in items
                for name, each in _flat(part, f'{key}.{number}' if key else str(number)).items()}
    return {key: value}


def _value(node) -> Any:
    if isinstance(node, ast.Dict):
        return {_value(key): _value(each) for key, each in zip(node.keys, node.values) if key is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        parts = {key: value for each in node.args for key, value in dict(_value(each)).items()}
        return {**parts, **{each.arg: _value(each.value) for each in node.keywords}}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return ast.unparse(node)
