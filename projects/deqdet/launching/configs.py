"""Reads the config of a run: its file, then ``--cfg-options``."""

import argparse
import os
import traceback
from difflib import get_close_matches

from mmengine.config import Config

from ..errors import UsageError
from ..shipped import find_config
from .explaining import TRACEBACK
from .options import shortened

# Top-level config keys of a run. With a typo in one, a part of the config would have no effect.
RUN_KEYS = (
    'model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks', 'custom_hooks',
    'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level', 'visualizer', 'default_scope',
    'randomness', 'experiment_name', 'work_dir', 'auto_scale_lr', 'custom_imports')


def read_config(args: argparse.Namespace) -> Config:
    """A config file with ``--cfg-options``.

    Args:
        args (argparse.Namespace): Has config (a path, or the name of a config in the package), cfg_options.

    Returns:
        Config: The config with the user's options.

    Raises:
        UsageError: If the file, or one it is based on, does not exist.
    """
    path = find_config(args.config)
    if path.suffix not in ('.py', '.yml', '.yaml', '.json'):
        raise UsageError(
            f'{args.config} is not a config file (.py): the config comes first, then the checkpoint',
            'bad-config')
    try:
        cfg = Config.fromfile(str(path))
    except FileNotFoundError as error:
        raise UsageError(f'config {args.config} needs a file that does not exist: {error}',
                         'missing-file') from error
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        reason = f'{_line_of(error)}{type(error).__name__}: {error}'
        raise UsageError(f'config {args.config} cannot be read ({reason})', 'bad-config') from error
    if args.cfg_options is not None:
        _merge(cfg, args.cfg_options)
    return cfg


def _line_of(error) -> str:
    """The line of a config in which an error occurred, in words. Syntax errors name it themselves."""
    frames = [] if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if frame.name == '<module>'][-1:]
    return f'line {last[0].lineno}: ' if last and last[0].filename.endswith('.py') else ''


def _merge(cfg, options):
    for option, value in options.items():
        key, known = option.split('.')[0], {*cfg, *RUN_KEYS}
        close = get_close_matches(key, known, n=1, cutoff=0.8)
        if key not in known and close:  # a typo
            raise UsageError(f'--cfg-options {option}: the config has no {key}: did you mean {close[0]}?',
                             'bad-cfg-option')
        try:
            cfg.merge_from_dict({option: value})
        except (TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            reason = shortened(str(error.args[0] if error.args else error))
            raise UsageError(f'--cfg-options {option}: the config has no place for it ({reason})',
                             'bad-cfg-option') from error
