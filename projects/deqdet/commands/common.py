"""What the Python tools have in common."""

import argparse
import os
import os.path as osp
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..compat.checkpoint_loading import safe_checkpoint_loading, trust_checkpoints
from ..compat.image_loading import images_named_in_errors
from ..compat.text_fonts import use_text_fonts
from ..errors import NonFiniteError, UsageError
from ..launching.explaining import TRACEBACK, explain, place_of
from ..launching.options import Options, check_places
from ..launching.workers import exit_with_usage_error, export_worker_variables, running_workers
from ..shipped import find_config
from ..training.accumulation import AccumulatingRunner
from ..training.config_checks import check_config, check_new_keys
from ..training.console import runner_builder
from ..training.resume import make_resumable

# As a shell reports a process that Ctrl-C ended.
_INTERRUPTED = 130

_HOOKS = ('DataCheckHook', 'EvaluatedImagesHook', 'CheckpointCheckHook', 'ResumeHook', 'MetricNamesHook',
          'IterationSeedHook', 'HookStateHook', 'TerminationHook')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that training and testing share, as mmdet's tools have them."""
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher; tools/dist_*.sh and tools/slurm_*.sh set it')
    add_trust_option(parser)
    parser.add_argument(
        '--verbose', action='store_true', help='print all that goes to the log file, without a progress bar')
    # Given by torch.distributed.launch; torchrun sets the environment variable instead.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help='settings that override the config, for example optim_wrapper.optimizer.lr=1e-4; a '
        'list is written KEY="[a,b]" or KEY=a,b, nested ones KEY="[(a,b),(c,d)]", without spaces; '
        'KEY=None unsets')


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """``--trust-checkpoint``, see :func:`trust_if_told`."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='read checkpoints in full, which may run any code that is in them; needed for files '
        'that hold more than weights and the state of training')


def load_config(args: argparse.Namespace) -> Config:
    """The config of a run: file, then ``--cfg-options``, then ``--work-dir``.

    Args:
        args (argparse.Namespace): Has config, work_dir and what ``add_common_arguments`` adds.

    Returns:
        Config: With the hooks that check data and checkpoints and make training resumable.

    Raises:
        UsageError: If the file, or one it is based on, does not exist, or if the launcher did not
            start this process, or if a setting cannot work.
    """
    # First of all: whatever else is wrong, rank 0 says it, and needs to know that it is rank 0.
    export_worker_variables(args.launcher)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
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


def read_config(args: argparse.Namespace) -> Config:
    """A config file with ``--cfg-options``.

    Args:
        args (argparse.Namespace): Has config, a path or the name of a config that comes with the package, and
            cfg_options.

    Returns:
        Config: The config as the user has it.

    Raises:
        UsageError: If the file, or one it is based on, does not exist.
    """
    path = find_config(args.config)
    if path.suffix not in ('.py', '.yml', '.yaml', '.json'):
        raise UsageError(
            f'{args.config} is no config file (.py): the config comes first, then the checkpoint')
    try:
        cfg = Config.fromfile(str(path))
    except FileNotFoundError as error:
        raise UsageError(f'config {args.config}: {error}') from error
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        reason = f'{place_of(error)}{type(error).__name__}: {error}'
        raise UsageError(f'config {args.config} cannot be read ({reason})') from error
    if args.cfg_options is not None:
        _merge(cfg, args.cfg_options)
    return cfg


def _merge(cfg, options):
    check_new_keys(cfg, options)
    check_places(cfg, options)
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        reason = str(error.args[0] if error.args else error)
        raise UsageError(f'--cfg-options {" ".join(options)}: the config has no place for one of these '
                         f'({reason})') from error


def trust_if_told(args: argparse.Namespace) -> None:
    """Where ``--trust-checkpoint`` was given, files are read in full from here on."""
    if args.trust_checkpoint:
        trust_checkpoints()


def add_hooks(cfg: Config) -> None:
    """Append the hooks that check the input, seed and listen to SIGTERM, unless the config has them.

    Args:
        cfg (Config): The whole config. Changed in place.
    """
    hooks = list(cfg.get('custom_hooks') or [])
    default = list((cfg.get('default_hooks') or {}).values())
    named = [hook.get('type') for hook in hooks + default if isinstance(hook, dict)]
    cfg.custom_hooks = hooks + [dict(type=kind) for kind in _HOOKS if kind not in named]


def _runner_type(cfg):
    named = cfg.get('runner_type', AccumulatingRunner)
    found = RUNNERS.get(named) if isinstance(named, str) else named
    if found is None:
        raise UsageError(f'runner_type: unknown type {named!r}; look for a typo, or add the module that '
                         'registers it to custom_imports')
    return found


@contextmanager
def runner_of(cfg: Config, *, verbose: bool = True) -> Iterator[Runner]:
    """The Runner of a config, on workers that are ready.

    Args:
        cfg (Config): The whole config. Changed in place, see :func:`prepare_workers`.
        verbose (bool): Whether the terminal shows all that is logged.
    """
    with running_workers(cfg), runner_builder(_runner_type(cfg), verbose=verbose) as build:
        runner = build(cfg)
        use_text_fonts(runner.visualizer)
        yield runner


@contextmanager
def _folders_of_user_last() -> Iterator[None]:
    """Modules beside the user's config (``custom_imports``) are found inside, after all installed ones.

    Not before: packages try whether another one is installed, and would take a config of its name for it.
    """
    before = list(sys.path)
    checkout = Path(__file__).resolve().parents[3]
    folders = [str(checkout)] if (checkout / 'tools' / 'train.py').is_file() else []
    sys.path += [folder for folder in [*folders, osp.abspath('')] if folder not in sys.path]
    try:
        yield
    finally:
        sys.path[:] = before


def run(main: Callable[[], None]) -> None:
    """Run a tool: checkpoints load safely, and what the user can mend is said in one line.

    With DEQDET_TRACEBACK=1 in the environment what comes from other packages keeps its traceback.

    Args:
        main (Callable): The tool, without arguments.
    """
    try:
        with safe_checkpoint_loading(), images_named_in_errors(), _folders_of_user_last():
            main()
    except (UsageError, NonFiniteError, FileNotFoundError) as error:
        exit_with_usage_error(error)
    except KeyboardInterrupt:
        if os.environ.get('RANK', '0') == '0':
            print('\nstopped by Ctrl-C: a training goes on from its last complete checkpoint with --resume',
                  file=sys.stderr, flush=True)
        sys.exit(_INTERRUPTED)
    except Exception as error:
        told = None if os.environ.get(TRACEBACK) else explain(error)
        if told is None:
            raise
        exit_with_usage_error(told)
