"""Private state of mmengine's Runner, its loops and its optimiser wrappers."""

from typing import Optional

from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner, find_latest_checkpoint


def is_resuming(runner: Runner) -> bool:
    """Whether a runner takes the state of training from the checkpoint that it loads."""
    return bool(runner._resume)


def unit_of(runner: Runner) -> str:
    """The unit that the training loop of a runner counts: ``epoch`` or ``iteration``."""
    return 'epoch' if isinstance(runner.train_loop, EpochBasedTrainLoop) else 'iteration'


def loaded_file(runner: Runner) -> Optional[str]:
    """The checkpoint that a runner loads."""
    return runner._load_from or find_latest_checkpoint(runner.work_dir)


def trains(runner: Runner) -> bool:
    """Whether a runner has a training loop, and does not only test or validate."""
    return loop_at_work(runner) is not None


def loop_at_work(runner: Runner) -> Optional[BaseLoop]:
    """The training loop, or None if a runner only tests or validates (``train_loop`` would build one)."""
    loop = runner._train_loop
    return loop if isinstance(loop, BaseLoop) else None


def accumulation_of(wrapper: OptimWrapper) -> int:
    """Number of iterations whose gradients one step of an optimiser uses."""
    return wrapper._accumulative_counts
