"""Handles SIGTERM, which a cluster sends before it kills a job: save the state, and exit."""

import os
import signal
import threading
import time
from functools import partial
from typing import Any, Callable, Dict, Optional

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..compat.runner_state import wrappers_of
from ..launching.workers import has_accelerator
from .saving import CompleteCheckpointHook

# Exit status that a shell reports for a process that SIGTERM ended.
TERMINATED = 128 + signal.SIGTERM

# A cluster signals all processes of a job, and torchrun passes its signal on to its workers. So a signal this
# soon after the first is no second request.
_SECONDS_OF_ONE_REQUEST = 5.0

# Iterations between agreements of the workers on a GPU, because each agreement waits for the GPU.
_INTERVAL_ON_GPU = 10


@HOOKS.register_module()
class TerminationHook(Hook):
    """After SIGTERM, ends training with a checkpoint at the end of the iteration.

    The process exits with status 143 and without a traceback (``SystemExit``). Several workers agree on the
    iteration. During a validation it exits at once if the trained epoch is saved, otherwise after it. A
    second SIGTERM ends the process at once. So does the first before training, when there is nothing to save.
    """

    # Runs after the optimiser's schedulers, averages of the model and regular checkpoints.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._asked_at: Optional[float] = None
        self._handler_before: Any = None
        # Iterations since the workers last agreed.
        self._unasked = 0

    def before_train(self, runner: Runner) -> None:
        """Handles the signal from here on; workers of data loaders leave it to this process."""
        for loop in (runner.train_loop, runner.val_loop):
            loader = getattr(loop, 'dataloader', None)
            if loader is not None:
                loader.worker_init_fn = partial(_start_loader_worker, init=loader.worker_init_fn)
        # Python lets only the main thread set handlers.
        if threading.current_thread() is threading.main_thread():
            self._handler_before = signal.signal(signal.SIGTERM, self._on_signal)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """Saves and exits, if it was requested."""
        self._unasked += 1
        if not all(wrapper.should_update() for wrapper in wrappers_of(runner).values()):
            # A checkpoint does not hold accumulated gradients.
            return
        if get_world_size() > 1 and has_accelerator() and self._unasked < _INTERVAL_ON_GPU:
            return
        self._unasked = 0
        if self._all_asked():
            self._save_and_leave(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Optional[Any] = None) -> None:
        """Exits, if it was requested and everything is saved."""
        # No agreement: workers may validate different numbers of batches, and no worker has to save.
        if self._asked_at is not None and self._has_saved(runner, runner.iter):
            self._leave(runner, 'the checkpoint of this epoch is saved')

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        """Saves and exits, if it was requested."""
        if self._all_asked():
            self._save_and_leave(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Stops handling the signal."""
        self._restore_handler()

    def _on_signal(self, number, frame):
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif now - self._asked_at > _SECONDS_OF_ONE_REQUEST:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    def _all_asked(self) -> bool:
        """Whether any worker got the request; every worker must call it."""
        asked = torch.tensor(int(self._asked_at is not None))
        all_reduce(asked, op='max')
        return bool(asked)

    def _has_saved(self, runner, iterations) -> bool:
        hook = _checkpoint_hook(runner)
        return hook is not None and hook.has_saved(iterations)

    def _save_and_leave(self, runner, iterations):
        hook = _checkpoint_hook(runner)
        if self._has_saved(runner, iterations):
            self._leave(runner, f'iteration {iterations} is saved')
        elif hook is None:
            self._leave(runner, f'iteration {iterations} is not saved: the config has no checkpoint hook')
        else:
            path = hook.save_interim(runner, iterations=iterations)
            self._leave(runner, f'iteration {iterations} is saved in {path}')

    def _leave(self, runner, what):
        runner.logger.info(f'SIGTERM: {what}; --resume continues the training')
        # Some back ends keep their data in memory until they are closed.
        runner.visualizer.close()
        self._restore_handler()
        raise SystemExit(TERMINATED)

    def _restore_handler(self):
        if self._handler_before is not None:
            signal.signal(signal.SIGTERM, self._handler_before)
            self._handler_before = None


def _end_at_once():
    """Restore the default in forked processes, as of some evaluators: they have nothing to save."""
    if isinstance(getattr(signal.getsignal(signal.SIGTERM), '__self__', None), TerminationHook):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_end_at_once)


def _checkpoint_hook(runner) -> Optional[CompleteCheckpointHook]:
    hooks = (hook for hook in runner.hooks if isinstance(hook, CompleteCheckpointHook))
    return next(hooks, None)


def _start_loader_worker(number: int, *, init: Optional[Callable[[int], None]]) -> None:
    """Loader workers end when their process tells them to, not when a cluster signals the job.

    Otherwise the process would lose them and fail before it has saved.
    """
    if hasattr(signal, 'sigwaitinfo'):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_parent_says, daemon=True).start()
    if init is not None:
        init(number)


def _end_when_parent_says():
    # The worker blocks the signals. This thread receives them, and sees who sent them.
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
