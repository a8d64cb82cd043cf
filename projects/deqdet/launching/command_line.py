"""Shared by all commands: options, and one-line messages for errors that the user can fix."""

import argparse
import os
import os.path as osp
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, NoReturn, Optional, Union

from ..compat.building import parts_named_in_errors
from ..compat.checkpoint_loading import safe_checkpoint_loading, trust_checkpoints
from ..compat.image_loading import images_named_in_errors
from ..errors import NonFiniteError, UsageError
from .explaining import TRACEBACK, explain
from .options import Options
from .workers import exit_with_usage_error

# Exit status that a shell reports after Ctrl-C.
_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Reads the words of a command. A wrong word is a UsageError, in one line and without the usage."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise the error, with the option before its value: ``--images 0: must be 1 or more``."""
        raise UsageError(re.sub(r'^argument (\S+):', r'\1', message), 'bad-argument')


def within(least: float, most: Optional[float] = None, *, kind: type = int
           ) -> Callable[[str], Union[int, float]]:
    """The ``type`` of an option: a number from ``least`` to ``most``, whole or, with ``kind=float``, any."""
    def number(text: str) -> Union[int, float]:
        value = kind(text)
        if not least <= value <= (value if most is None else most):
            raise argparse.ArgumentTypeError(
                f'{text}: must be ' + (f'{least} or more' if most is None else f'from {least} to {most}'))
        return value

    number.__name__ = kind.__name__  # argparse writes it into the message for another word
    return number


def keep_old_name(parser: argparse.ArgumentParser, option: argparse.Action, old: str) -> None:
    """Keep the name that an option had in earlier versions, with its dashes; no help shows it."""
    parser.add_argument(old, dest=option.dest, type=option.type or str, nargs=option.nargs,
                        default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that training and testing share, named as in mmdet's tools."""
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher; tools/dist_*.sh and tools/slurm_*.sh set it')
    add_trust_option(parser)
    parser.add_argument(
        '--verbose', action='store_true', help='print all that goes to the log file, without a progress bar')
    # torch.distributed.launch sets it; torchrun sets the environment variable instead.
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
        'list is KEY="[a,b]" or KEY=a,b, a nested list KEY="[(a,b),(c,d)]", without spaces; KEY=None '
        'removes a setting')


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """``--trust-checkpoint``, see :func:`trust_if_told`."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints completely, which runs any code in them; needed for files that hold '
        'more than weights and the state of training')


def trust_if_told(args: argparse.Namespace) -> None:
    """Read files in full from here on if ``--trust-checkpoint`` was given."""
    if args.trust_checkpoint:
        trust_checkpoints()


@contextmanager
def _folders_of_user_last() -> Iterator[None]:
    """Let ``custom_imports`` find modules in the checkout and the current folder, after all installed ones.

    Before them, a config could pass for a package of its name, if another package tests whether that is
    installed.
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
    """Run a tool: checkpoints load safely, and errors that the user can fix are reported in one line.

    With DEQDET_TRACEBACK=1 in the environment, errors of other packages keep their traceback.
    """
    try:
        with safe_checkpoint_loading(), images_named_in_errors(), parts_named_in_errors(), \
                _folders_of_user_last():
            main()
    except (UsageError, NonFiniteError, FileNotFoundError) as error:
        exit_with_usage_error(error)
    except KeyboardInterrupt:
        if os.environ.get('RANK', '0') == '0':
            print('\nstopped by Ctrl-C: detection and studies continue with the same command, and a training '
                  'with --resume from its last complete checkpoint', file=sys.stderr, flush=True)
        sys.exit(_INTERRUPTED)
    except Exception as error:
        told = None if os.environ.get(TRACEBACK) else explain(error)
        if told is None:
            raise
        exit_with_usage_error(told)
