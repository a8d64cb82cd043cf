"""Settings of a run with which mmengine ends in a traceback, or goes on to do nothing."""

import inspect
from difflib import get_close_matches
from math import inf
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ..data.data_configs import leaves_of
from ..errors import UsageError
from ..launching.configs import RUN_KEYS
from ..settings import check_keys, check_whole, is_finite, is_whole

_SPLITS = ('train', 'val', 'test')
# numpy takes no larger seed.
_LARGEST_SEED = 2**32 - 1

# mmengine's own hooks, by their names in `default_hooks`.
_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


def check_config(cfg: Config) -> None:
    """The numbers of a config with which a run can work, and names that are probably slips.

    What a config is silent about is left to mmengine.

    Args:
        cfg (Config): The whole config.

    Raises:
        UsageError: The first setting with which it cannot, by its key.
    """
    for split in _SPLITS:
        _check_loader(_part(cfg, f'{split}_dataloader'), f'{split}_dataloader')
        for key, dataset in leaves_of(cfg, split):
            _check_dataset(dataset, key)
    _check_loop(_part(cfg, 'train_cfg'))
    _check_seed(_part(cfg, 'randomness'))
    _check_optimisation(_part(cfg, 'optim_wrapper'))
    schedulers = cfg.get('param_scheduler')
    for number, scheduler in enumerate(schedulers if isinstance(schedulers, list) else []):
        _check_scheduler(scheduler, f'param_scheduler.{number}')
    hooks = _part(cfg, 'default_hooks')
    for name, hook in (hooks or {}).items():
        if isinstance(hook, dict):
            if 'type' not in hook:
                close = get_close_matches(name, {*hooks, *_HOOKS} - {name}, n=1)
                raise UsageError(f'default_hooks.{name} has no type'
                                 + (f': is {close[0]} meant?' if close else ''))
            _check_interval(hook, f'default_hooks.{name}')
    for number, hook in enumerate(cfg.get('custom_hooks') or []):
        if isinstance(hook, dict):
            _check_interval(hook, f'custom_hooks.{number}')
    _check_weights(_part(cfg, 'model'), 'model')
    _check_slips(cfg)


def _part(cfg, name):
    part = cfg.get(name)
    if part is not None and not isinstance(part, dict):
        raise UsageError(f'{name}={part!r} must be a dict, or None')
    return part


def _check_loader(loader, name):
    if loader is None:
        return
    if loader.get('batch_size') is not None:
        check_whole(loader['batch_size'], name=f'{name}.batch_size', least=1)
    workers = loader.get('num_workers', 0)
    check_whole(workers, name=f'{name}.num_workers', least=0,
                why='0 loads in the process of the training itself')
    for key in ('persistent_workers', 'prefetch_factor') if workers == 0 else ():
        if loader.get(key):
            raise UsageError(f'{name}.{key}={loader[key]!r} is for loader workers, and there are none: set '
                             f'{name}.num_workers=1 or more, or take {key} out')
    if 'dataset' not in loader:
        raise UsageError(f'{name} has no dataset{_nearest("dataset", loader)}')


def _check_dataset(dataset, key):
    for name, kind, words in (('data_root', str, 'a text'), ('ann_file', str, 'a text'),
                              ('metainfo', dict, 'a dict'), ('data_prefix', dict, 'a dict'),
                              ('filter_cfg', dict, 'a dict'),
                              ('pipeline', (list, tuple), 'a list of steps')):
        value = dataset.get(name)
        # Sets of several files name them in a list.
        several = name == 'ann_file' and isinstance(value, list)
        if value is not None and not isinstance(value, kind) and not several:
            raise UsageError(f'{key}.{name}={value!r} must be {words}')
    for name, value in (dataset.get('data_prefix') or {}).items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f'{key}.data_prefix.{name}={value!r} must be a text')
    indices = dataset.get('indices')
    if indices is None:
        return
    whole = is_whole(indices) or isinstance(indices, (list, tuple)) and all(map(is_whole, indices))
    if not whole or indices == 0 or not is_whole(indices) and not indices:
        raise UsageError(
            f'{key}.indices={indices!r} leaves no image: write how many images to take, from the beginning, '
            'or with a minus from the end, or a list of numbers of images; None for all')


def _check_loop(loop):
    for name in ('max_epochs', 'max_iters', 'val_interval') if loop else ():
        if loop.get(name) is not None:
            why = 'a number above that of the epochs leaves validation to the end'
            check_whole(loop[name], name=f'train_cfg.{name}', least=1, why=why if 'val' in name else '')
    if loop and loop.get('val_begin') is not None:
        check_whole(loop['val_begin'], name='train_cfg.val_begin', least=0)


def _check_seed(randomness):
    if randomness:
        check_keys(randomness, ('seed', 'diff_rank_seed', 'deterministic'), name='randomness')
        if randomness.get('seed') is not None:
            check_whole(randomness['seed'], name='randomness.seed', least=0, most=_LARGEST_SEED,
                        why='None draws one')


def _check_optimisation(wrapper):
    if not wrapper:
        return
    if wrapper.get('accumulative_counts') is not None:
        check_whole(wrapper['accumulative_counts'], name='optim_wrapper.accumulative_counts', least=1)
    rate = (wrapper.get('optimizer') or {}).get('lr') if isinstance(wrapper.get('optimizer'), dict) else None
    if rate is not None and not (is_finite(rate) and rate >= 0):
        raise UsageError(f'optim_wrapper.optimizer.lr={rate!r} must be a number, 0 or more')
    clip = wrapper.get('clip_grad')
    if clip is not None and not isinstance(clip, dict):
        raise UsageError(
            f'optim_wrapper.clip_grad={clip!r} must be a dict, such as dict(max_norm=1.0), or None')
    for name in ('max_norm', 'clip_value'):
        limit = (clip or {}).get(name)
        if limit is not None and not (is_finite(limit) and limit > 0):
            raise UsageError(f'optim_wrapper.clip_grad.{name}={limit!r} must be a number above 0, or every '
                             'gradient would be lost')


def _check_scheduler(scheduler, name):
    if not isinstance(scheduler, dict):
        raise UsageError(f'{name}={scheduler!r} must be a dict')
    # An end may be infinite.
    for key in ('begin', 'end', 'T_max', 'factor', 'start_factor', 'end_factor', 'gamma', 'power', 'eta_min'):
        value = scheduler.get(key)
        if value is not None and not is_finite(value) and not (key == 'end' and value == inf):
            raise UsageError(f'{name}.{key}={value!r} must be a number')


def _check_weights(part, name):
    """Weights of losses anywhere in a model."""
    if isinstance(part, dict):
        if 'loss_weight' in part and not is_finite(part['loss_weight']):
            raise UsageError(f'{name}.loss_weight={part["loss_weight"]!r} must be a number')
        for key, value in part.items():
            _check_weights(value, f'{name}.{key}')
    elif isinstance(part, (list, tuple)):
        for number, value in enumerate(part):
            _check_weights(value, f'{name}.{number}')


def _check_checkpoints(hook, name):
    """The hook of checkpoints hands on what it does not know, and the first checkpoint fails on it."""
    if str(hook.get('type')).split('.')[-1] in ('CheckpointHook', 'CompleteCheckpointHook'):
        check_keys(hook, [key for method in (CheckpointHook.__init__, Runner.save_checkpoint)
                          for key in inspect.signature(method).parameters
                          if key not in ('self', 'args', 'kwargs')], name=name, others=('type', 'priority'))


def _check_interval(hook: dict, name: str) -> None:
    _check_checkpoints(hook, name)
    kept = hook.get('max_keep_ckpts')
    if kept is not None and not is_whole(kept):
        raise UsageError(f'{name}.max_keep_ckpts={kept!r} must be a whole number; -1 keeps all')
    interval: Any = hook.get('interval')
    # -1 turns a hook off.
    if interval is not None and interval != -1:
        check_whole(interval, name=f'{name}.interval', least=1, why='-1 turns it off')


def _check_slips(cfg):
    """A key like one that the config needs and has not, such as ``trian_dataloader``."""
    for key in cfg:
        if key in RUN_KEYS or not isinstance(cfg.get(key), dict):
            continue
        close = get_close_matches(key, [name for name in RUN_KEYS if cfg.get(name) is None], n=1, cutoff=0.9)
        if close:
            raise UsageError(
                f'the config has {key}, which nothing reads, and no {close[0]}: write {close[0]}')


def _nearest(name, part) -> str:
    close = get_close_matches(name, map(str, part), n=1)
    return f', but {close[0]}: write {name}' if close else ''
