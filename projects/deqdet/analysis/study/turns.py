"""Steps of a training and predictions, measured in turn: each variant in a process of its own."""

import io
import warnings
from argparse import Namespace
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from copy import deepcopy
from functools import partial
from multiprocessing import get_context
from statistics import mean
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from ...errors import UsageError
from ...launching.command_line import run
from ...training.running import load_config, runner_of
from ..complexity import cost_of_call
from ..timing import now, peak_memory, take_turns

#: Training steps of a turn.
STEPS = 2
#: Images of a turn, one after the other.
IMAGES = 5
# No training is as long as this.
_ENDLESS = 10**9


class Turns:
    """What a process does in turn; the other side of :func:`measure`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def wait(self) -> bool:
        """Wait for the next turn; False if there is none."""
        return self._connection.recv()

    def tell(self, found: Mapping[str, Any]) -> None:
        """Send the result of a turn, or at the end all that is not a time."""
        self._connection.send(dict(found))


Work = Callable[[Turns, Namespace], Mapping[str, Any]]


def measure(work: Work, arguments: Mapping[str, Namespace], *, threads: int, rounds: int
            ) -> Tuple[Dict[str, float], Dict[str, Dict[str, Any]]]:
    """Let processes do their work in turn, so that the load of the machine is the same for all.

    Args:
        work (Callable): :func:`train` or :func:`predict`.
        arguments (Mapping[str, Namespace]): Arguments of the run by the name of the variant, with a work dir.
        threads (int): Threads of torch in each process.
        rounds (int): Number of turns of each after the first one, which is a warm-up.

    Returns:
        tuple: Seconds of a step or an image by name, median of all rounds; other facts by name.

    Raises:
        UsageError: If a process ended.
    """
    with ExitStack() as stack:
        ask = {name: stack.enter_context(_process(work, args, name, threads))
               for name, args in arguments.items()}
        seconds = take_turns({name: partial(asking, True) for name, asking in ask.items()}, rounds)
        facts = {name: asking(False) for name, asking in ask.items()}
    return {name: parts['seconds'] for name, parts in seconds.items()}, facts


@contextmanager
def _process(work, args, name, threads):
    """A process that waits for its turns; yields a function that gives it one."""
    new = get_context('forkserver')  # the packages are imported once for all processes
    new.set_forkserver_preload([__name__])
    ours, theirs = new.Pipe()
    process = new.Process(target=_work, args=(theirs, work, args, threads))
    process.start()
    theirs.close()

    def ask(turn):
        try:
            ours.send(turn)
            return ours.recv()
        except (EOFError, OSError):
            process.join()
            raise UsageError(f'the process that measures {name!r} ended with status {process.exitcode}',
                             'worker-failed') from None

    try:
        yield ask
    finally:
        ours.close()
        process.join(timeout=60)
        if process.is_alive():
            process.kill()


def _work(connection, work, args, threads):
    def serve():
        torch.set_num_threads(threads)
        turns = Turns(connection)
        # mmengine changes the way to start loader workers, and warns of it.
        warnings.filterwarnings('ignore', message='Multi-processing start method')
        # An EOFError: another process ended, and so the study.
        with suppress(EOFError), redirect_stdout(io.StringIO()):
            turns.tell(work(turns, args))

    run(serve)


class _Enough(Exception):
    """There is no next turn."""


class _TurnHook(Hook):
    """Stops a training after each turn until the next one."""

    priority = 'LOWEST'

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._begin = 0.0
        self._done = 0

    def _wait(self) -> None:
        if not self._turns.wait():
            raise _Enough
        self._begin = now()

    def before_train(self, runner: Runner) -> None:
        self._wait()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        self._done += 1
        if self._done % STEPS == 0:
            self._turns.tell(dict(seconds=(now() - self._begin) / STEPS))
            self._wait()


def train(turns: Turns, args: Namespace) -> Dict[str, Any]:
    """The first steps of a real training, with loading of its images; it saves and validates nothing.

    Returns:
        dict: ``batches`` of an epoch, ``memory``: peak of the process in GB (on a GPU: of tensors).
    """
    cfg = load_config(args)
    cfg.log_level = 'WARNING'
    length = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
    cfg.train_cfg.update({length: _ENDLESS, 'val_interval': _ENDLESS})
    cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'checkpoint': None}
    with runner_of(cfg) as runner:
        runner.register_hook(_TurnHook(turns))
        with suppress(_Enough):
            runner.train()
        return dict(batches=len(runner.train_dataloader), memory=peak_memory(_device(runner)))


def predict(turns: Turns, args: Namespace) -> Dict[str, Any]:
    """Predictions of the first images of a split, one image at a time, without loading it.

    Args:
        turns (Turns): The turns.
        args (Namespace): Also has ``checkpoint``, and ``split``: ``val`` or ``test``.

    Returns:
        dict: ``parameters``, and ``gflops``: see :func:`multiply_adds`.
    """
    cfg = load_config(args)
    cfg.load_from, cfg.resume, cfg.log_level = args.checkpoint, False, 'WARNING'
    if args.split == 'val':
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
        cfg.test_cfg = cfg.get('test_cfg') or dict(type='TestLoop')
    with runner_of(cfg) as runner, torch.no_grad():
        loop: Any = runner.test_loop
        runner.call_hook('before_run')
        runner.load_or_resume()
        # As at the start of a test: hooks load averaged weights (EMA).
        runner.call_hook('before_test')
        runner.call_hook('before_test_epoch')
        model, loader = runner.model.eval(), loop.dataloader
        batches = [loader.collate_fn([loader.dataset[index]])
                   for index in range(min(IMAGES, len(loader.dataset)))]
        while turns.wait():
            total = 0.0
            for batch in batches:
                given = deepcopy(batch)
                begin = now()
                model.test_step(given)
                total += now() - begin
            turns.tell(dict(seconds=total / len(batches)))
        return dict(parameters=sum(parameter.numel() for parameter in model.parameters()),
                    gflops=multiply_adds(model, batches))


def multiply_adds(model: BaseModel, batches: Sequence[Dict[str, Any]]) -> Union[float, str]:
    """1e9 multiply-adds of a prediction, mean of several, or the name of the error if they cannot be counted.

    Args:
        model (BaseModel): Any detector of mmdet in eval mode; its parameters get no gradients afterwards.
        batches (Sequence[dict]): Batches of a dataloader.
    """
    model.requires_grad_(False)  # of a parameter that a module gets as input, the counter wants the gradient
    try:
        return mean(cost_of_call(model, model.test_step, batch)[0].total for batch in batches)
    except Exception as error:  # operators of other packages, which torch cannot count
        return type(error).__name__


def _device(runner):
    return str(next(runner.model.parameters()).device)
