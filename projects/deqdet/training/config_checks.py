"""Refuses settings for which mmengine ends in a traceback or silently does nothing."""

import inspect
import re
from difflib import get_close_matches
from math import inf
from typing import Any, Callable, NamedTuple

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ..errors import UsageError
from ..launching.configs import RUN_KEYS
from ..settings import check_keys, is_finite, is_whole, settings_below

# mmengine's default hooks, by their names in `default_hooks`.
_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')

_LOADER = r'(train|val|test)_dataloader'
# A dataset, with or without wrappers.
_DATASET = rf'{_LOADER}\.dataset(\.datasets?|\.\d+)*'
_ANY_HOOK = r'(default_hooks\.\w+|custom_hooks\.\d+)'


class _Rule(NamedTuple):
    """Rule of a setting: the pattern of its key, a check, and words after ``KEY=VALUE``."""

    key: str
    fits: Callable[[Any], bool]
    words: str


def _whole(key: str, least: int, why: str = '', most: float = inf) -> _Rule:
    limits = f' from {least} to {most}' if most < inf else f', {least} or more'
    return _Rule(key, lambda value: is_whole(value) and least <= value <= most,
                 f'must be a whole number{limits}{"; " + why if why else ""}')


def _kind(key: str, kinds: Any, words: str) -> _Rule:
    return _Rule(key, lambda value: isinstance(value, kinds), f'must be {words}')


def _choose_images(indices: Any) -> bool:
    if isinstance(indices, (list, tuple)):
        return len(indices) > 0 and all(map(is_whole, indices))
    return is_whole(indices) and indices != 0


# None unsets a setting. It fits all rules except the weight of a loss.
_RULES = (
    _kind(rf'{_LOADER}|train_cfg|randomness|optim_wrapper|default_hooks|model', dict, 'a dict, or None'),
    _kind('custom_hooks', (list, tuple), 'a list of hooks, or None'),
    _whole(rf'{_LOADER}\.batch_size', 1),
    _whole(rf'{_LOADER}\.num_workers', 0, '0 loads images in the training process'),
    _kind(rf'load_from|work_dir|{_DATASET}\.(data_root|data_prefix\.\w+)', str,
          'a string; --cfg-options needs quotes around a name with commas: "KEY=\'a,b.pth\'"'),
    _kind(rf'{_DATASET}\.ann_file', (str, list), 'a string'),  # several files are a list
    _kind(rf'{_DATASET}\.(metainfo|data_prefix|filter_cfg)', dict, 'a dict'),
    _kind(rf'{_DATASET}\.pipeline', (list, tuple), 'a list of steps'),
    _Rule(rf'{_DATASET}\.indices', _choose_images, 'leaves no image: use the number of images from the '
          'beginning, a negative number for those from the end, a list of image numbers, or None for all'),
    _whole(r'train_cfg\.(max_epochs|max_iters)', 1),
    _whole(r'train_cfg\.val_interval', 1, 'a number above max_epochs validates only at the end'),
    _whole(r'train_cfg\.val_begin', 0),
    # numpy takes no larger seed.
    _whole(r'randomness\.seed', 0, 'None chooses one', 2**32 - 1),
    _whole(r'optim_wrapper\.accumulative_counts', 1),
    _Rule(r'optim_wrapper\.optimizer\.lr', lambda value: is_finite(value) and value >= 0,
          'must be a number, 0 or more'),
    _kind(r'optim_wrapper\.clip_grad', dict, 'a dict, such as dict(max_norm=1.0), or None'),
    _Rule(r'optim_wrapper\.clip_grad\.(max_norm|clip_value)', lambda value: is_finite(value) and value > 0,
          'must be a number above 0; 0 would remove all gradients'),
    _kind(r'param_scheduler\.\d+', dict, 'a dict'),
    _Rule(r'param_scheduler\.\d+\.(begin|T_max|factor|(start|end)_factor|gamma|power|eta_min)', is_finite,
          'must be a number'),
    _Rule(r'param_scheduler\.\d+\.end', lambda value: is_finite(value) or isinstance(value, float)
          and value == inf, 'must be a number'),
    # -1 turns a hook off.
    _Rule(rf'{_ANY_HOOK}\.interval', lambda value: is_whole(value) and (value == -1 or value >= 1),
          'must be a whole number, 1 or more; -1 turns it off'),
    _Rule(rf'{_ANY_HOOK}\.max_keep_ckpts', is_whole, 'must be a whole number; -1 keeps all'),
    _Rule(r'model\..*loss_weight', is_finite, 'must be a number'))


def check_config(cfg: Config) -> None:
    """Check that a run can work with the numbers of a config, and that its names contain no likely typos.

    Settings that a config lacks are left to mmengine.

    Args:
        cfg (Config): The whole config.

    Raises:
        UsageError: With the key of the first wrong setting.
    """
    for key, value in settings_below(cfg):
        for rule in _RULES:
            checked = (value is not None or key.endswith('loss_weight')) and re.fullmatch(rule.key, key)
            if checked and not rule.fits(value):
                raise UsageError(f'{key}={value!r} {rule.words}', 'bad-setting')
        if isinstance(value, dict) and re.fullmatch(_LOADER, key):
            _check_loader(value, key)
        elif isinstance(value, dict) and re.fullmatch(_ANY_HOOK, key):
            _check_hook(value, key, cfg)
        elif isinstance(value, dict) and key == 'randomness':
            check_keys(value, ('seed', 'diff_rank_seed', 'deterministic'), name=key)
    for key in cfg:
        # For example `trian_dataloader`.
        if key not in RUN_KEYS and isinstance(cfg.get(key), dict):
            missing = [name for name in RUN_KEYS if cfg.get(name) is None]
            close = get_close_matches(key, missing, n=1, cutoff=0.9)
            if close:
                raise UsageError(f'the config has an unknown part {key}; did you mean {close[0]}?',
                                 'unknown-setting')


def _check_loader(loader, name):
    for key in ('persistent_workers', 'prefetch_factor') if loader.get('num_workers', 0) == 0 else ():
        if loader.get(key):
            raise UsageError(f'{name}.{key}={loader[key]!r} needs loader workers: set {name}.num_workers=1 '
                             f'or more, or remove {key}', 'settings-mismatch')
    if 'dataset' not in loader:
        close = get_close_matches('dataset', map(str, loader), n=1)
        raise UsageError(f'{name} has no dataset; ' + (f'rename {close[0]}' if close else 'add it'),
                         'bad-config')


def _check_hook(hook, key, cfg):
    name = key.split('.')[-1]
    if key.startswith('default_hooks.') and 'type' not in hook:
        close = get_close_matches(name, {*cfg.default_hooks, *_HOOKS} - {name}, n=1)
        raise UsageError(f'{key} has no type; ' + (f'did you mean {close[0]}?' if close else 'add it'),
                         'bad-config')
    # The checkpoint hook passes on unknown arguments, so that the first checkpoint would fail on them.
    if str(hook.get('type')).split('.')[-1] in ('CheckpointHook', 'CompleteCheckpointHook'):
        check_keys(hook, [known for method in (CheckpointHook.__init__, Runner.save_checkpoint)
                          for known in inspect.signature(method).parameters
                          if known not in ('self', 'args', 'kwargs')], name=key, others=('type', 'priority'))
