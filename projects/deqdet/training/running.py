"""Builds a Runner from a command's arguments, with the checks, resume and end of this project."""

import argparse
import os
import os.path as osp
from contextlib import contextmanager
from typing import Iterator

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..compat.building import names_parts
from ..compat.imports import import_yapf
from ..compat.visualising import use_text_fonts
from ..errors import UsageError
from ..launching.command_line import trust_if_told
from ..launching.configs import read_config
from ..launching.workers import export_worker_variables, running_workers
from .accumulation import AccumulatingRunner
from .config_checks import check_config
from .console import runner_builder
from .resume import make_resumable

_HOOKS = ('DataCheckHook', 'EvaluatedImagesHook', 'CheckpointCheckHook', 'ResumeHook', 'MetricNamesHook',
          'IterationSeedHook', 'HookStateHook', 'TerminationHook')


def load_config(args: argparse.Namespace) -> Config:
    """The config of a run: file, then ``--cfg-options``, then ``--work-dir``.

    Args:
        args (argparse.Namespace): Has config, work_dir and the options of ``add_common_arguments``.

    Returns:
        Config: With the hooks that check data and checkpoints and make training resumable.

    Raises:
        UsageError: If the file, or one it is based on, does not exist, or if the launcher did not start this
            process, or if a setting cannot work.
    """
    # This comes first: rank 0 reports all later errors, so it must know that it is rank 0.
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    export_worker_variables(args.launcher)
    cfg = read_config(args)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('./work_dirs', osp.splitext(osp.basename(args.config))[0])
    trust_if_told(args)
    check_config(cfg)
    add_hooks(cfg)
    make_resumable(cfg)
    return cfg


def add_hooks(cfg: Config) -> None:
    """Add the missing hooks to a config, in place: they check the input, seed, and handle SIGTERM."""
    hooks = list(cfg.get('custom_hooks') or [])
    default = list((cfg.get('default_hooks') or {}).values())
    named = [hook.get('type') for hook in hooks + default if isinstance(hook, dict)]
    cfg.custom_hooks = hooks + [dict(type=kind) for kind in _HOOKS if kind not in named]


def _runner_type(cfg):
    named = cfg.get('runner_type', AccumulatingRunner)
    found = RUNNERS.get(named) if isinstance(named, str) else named
    if found is None:
        raise UsageError(f'runner_type: unknown type {named!r}; correct the typo, or add the module that '
                         'registers it to custom_imports', 'unknown-type')
    if issubclass(found, AccumulatingRunner):
        return found
    return names_parts(type(found.__name__, (found, ), {}))


@contextmanager
def runner_of(cfg: Config, *, verbose: bool = True) -> Iterator[Runner]:
    """The Runner of a config, with its workers ready.

    Args:
        cfg (Config): The whole config. Changed in place, see :func:`prepare_workers`.
        verbose (bool): Whether the terminal shows the whole log.
    """
    import_yapf()
    # Without a launcher, another program has set the variable.
    shown = cfg.get('launcher', 'none') == 'none' or os.environ.get('RANK', '0') == '0'
    with running_workers(cfg), runner_builder(_runner_type(cfg), verbose=verbose, shown=shown) as build:
        runner = build(cfg)
        use_text_fonts(runner.visualizer)
        yield runner
