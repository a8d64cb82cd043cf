"""The checkpoint that a run starts from, and settings that make the run resumable."""

import glob
import os
import os.path as osp
from typing import Mapping, Optional

from mmengine.config import Config

from ..checkpoints.check import check_checkpoint_file
from ..errors import UsageError
from .saving import LAST_CHECKPOINT

# The state of training beside the weights. A run may leave out the optimiser's state.
_STATE = ('meta', 'message_hub')

# Our replacements for mmengine's classes; the arguments are the same.
_LOOPS = dict(EpochBasedTrainLoop='ResumableTrainLoop')
_HOOKS = dict(CheckpointHook='CompleteCheckpointHook')


def make_resumable(cfg: Config) -> None:
    """Replace mmengine's training loop and checkpoint hook in a config, in place, by those of deqdet."""
    loop = cfg.get('train_cfg')
    if loop and 'type' not in loop and loop.get('by_epoch', False):
        loop.pop('by_epoch')
        loop.type = 'EpochBasedTrainLoop'
    if not cfg.get('default_hooks'):
        cfg.default_hooks = {}
    hooks = cfg.default_hooks
    # If the config does not set it, mmengine adds its own; if it is None, mmengine adds nothing.
    hooks.setdefault('checkpoint', dict(type='CheckpointHook', interval=1))
    replaced = [(loop, _LOOPS), *((hook, _HOOKS) for hook in hooks.values()),
                *((hook, _HOOKS) for hook in cfg.get('custom_hooks') or [])]
    for part, ours in replaced:
        name = _name(part.get('type')) if isinstance(part, dict) else None
        if name in ours:
            part['type'] = ours[name]
        if name == 'EarlyStoppingHook':
            # It must run before checkpoints with the best metric are saved, because they hold its state.
            part.setdefault('priority', 'LOW')


def check_start(cfg: Config) -> None:
    """Find the checkpoint that a run starts from, and check that it can be read.

    With ``resume`` and without ``load_from`` it is the last complete one of the work dir. If there is none,
    the run starts from the beginning. A resumed run gets the checkpoint's seed, to repeat the order of its
    data.

    Args:
        cfg (Config): The whole config. Changed in place: ``load_from``, ``resume``, ``randomness``.

    Raises:
        UsageError: See :func:`check_checkpoint_file`.
    """
    if cfg.get('resume') and not cfg.get('load_from'):
        cfg.load_from = find_complete_checkpoint(cfg.work_dir, _checkpoint_folder(cfg))
        if cfg.load_from is None:
            cfg.resume = False
            _say(f'no complete checkpoint in {cfg.work_dir}: training starts from the beginning')
    if not cfg.get('load_from'):
        return
    checkpoint = check_checkpoint_file(cfg.load_from)
    meta = (checkpoint or {}).get('meta')
    seed = meta.get('seed') if isinstance(meta, Mapping) else None
    if cfg.get('resume') and seed is not None:
        configured = (cfg.get('randomness') or {}).get('seed')
        if configured is not None and configured != seed:
            _say(f'resume: the seed is {seed} as in the checkpoint; {configured} of the config is not used')
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)


def find_complete_checkpoint(work_dir: str, folder: Optional[str] = None) -> Optional[str]:
    """The checkpoint from which an interrupted run can continue.

    Args:
        work_dir (str): Work dir of the run, with the file ``last_checkpoint``.
        folder (str, optional): Folder of the run's checkpoints. Default: the work dir.

    Returns:
        str or None: The one that ``last_checkpoint`` names; if it is not complete, the newest complete one.

    Raises:
        UsageError: If that checkpoint holds objects that could run code when loaded.
    """
    named = _read(osp.join(work_dir, LAST_CHECKPOINT))
    # The name is absolute. In a copied or moved work dir, the file in that work dir is meant.
    beside = osp.abspath(osp.join(folder or work_dir, osp.basename(named)))
    if named and '://' not in named and osp.isfile(beside) and beside != osp.abspath(named):
        _say(f'resume: {LAST_CHECKPOINT} names {named}; using the file of that name in this work dir')
        named = beside
    if named and ('://' in named or _is_complete(named, _STATE)):
        return named
    paths = glob.glob(osp.join(glob.escape(folder or work_dir), '*.pth'))
    for path in sorted(paths, key=osp.getmtime, reverse=True):
        # The best model and published ones are saved without optimiser.
        if path != named and _is_complete(path, (*_STATE, 'optimizer')):
            reason = f'{named} cannot be read' if named else f'{LAST_CHECKPOINT} names none'
            _say(f'resume: {reason}; using {path}, the newest complete checkpoint')
            return path
    return None


def _name(kind) -> Optional[str]:
    """Name of a type that is a class or a name, with or without scope."""
    return kind.split('.')[-1] if isinstance(kind, str) else getattr(kind, '__name__', None)


def _checkpoint_folder(cfg) -> str:
    """Folder where ``CheckpointHook`` saves: the work dir, or a folder with its name in ``out_dir``."""
    out_dir = (cfg.get('default_hooks', {}).get('checkpoint') or {}).get('out_dir')
    if not out_dir or '://' in str(out_dir):
        return cfg.work_dir
    return osp.join(out_dir, osp.basename(osp.abspath(cfg.work_dir)))


def _read(path) -> str:
    try:
        with open(path, encoding='utf-8') as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ''


def _is_complete(path, keys) -> bool:
    """Whether a file is complete and holds these parts of the state of training."""
    try:
        checkpoint = check_checkpoint_file(path)
    except UsageError as error:
        if error.code == 'untrusted-checkpoint':
            raise
        return False
    return isinstance(checkpoint, Mapping) and all(key in checkpoint for key in keys)


def _say(message):
    # Workers and loggers do not exist yet.
    if os.environ.get('RANK', '0') == '0':
        print(message, flush=True)
