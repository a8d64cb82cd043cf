"""SIGTERM ends training with a checkpoint; tests/tools/test_interrupted.py tests whole processes."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from deqdet.training import termination
from deqdet.training.termination import TerminationHook
from mmengine.registry import HOOKS
from small_model import ROOT
from training.toy import Diary, Rising, config, train


@HOOKS.register_module()
class Signaller(Diary):
    """Sends the signal after an iteration, before it is saved."""

    priority = 'VERY_HIGH'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        kill_after, self.kill_after = self.kill_after, None
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        self.kill_after = kill_after
        if runner.iter + 1 == kill_after:
            os.kill(os.getpid(), signal.SIGTERM)


def signalled(work_dir, iteration, **changes):
    return train(config(work_dir, **{
        'custom_hooks.0.type': 'Signaller', 'custom_hooks.0.kill_after': iteration, **changes}))


def checkpoints(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def test_in_the_middle_of_an_epoch(tmp_path):
    _, whole = train(config(tmp_path / 'whole'))
    _, before = signalled(tmp_path, 7)
    assert checkpoints(tmp_path) == ['epoch_1.pth', 'interim_iter_7.pth']
    meta = torch.load(tmp_path / 'interim_iter_7.pth', weights_only=False)['meta']
    assert (meta['epoch'], meta['iter']) == (1, 7)
    _, after = train(config(tmp_path, resume=True))
    assert [row[-1] for row in (*before, *after)] == [row[-1] for row in whole]
    assert len(before) == 7 and after == whole[7:]
    assert checkpoints(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']


def test_interim_checkpoints_do_not_pile_up(tmp_path):
    signalled(tmp_path, 2)
    signalled(tmp_path, 3, resume=True)
    assert checkpoints(tmp_path) == ['interim_iter_3.pth']


@pytest.mark.parametrize('iteration', [5, 15])
def test_at_the_end_of_an_epoch(tmp_path, iteration):
    _, whole = train(config(tmp_path / 'whole'))
    signalled(tmp_path, iteration)
    Rising.values.clear()
    _, after = train(config(tmp_path, resume=True))
    assert after == whole[iteration:]
    assert len(Rising.values) == 4 - iteration // 5
    assert checkpoints(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']


def test_what_is_saved_already_is_not_saved_again(tmp_path):
    signalled(tmp_path, 4, **{'default_hooks.checkpoint.by_epoch': False})
    assert checkpoints(tmp_path) == [f'iter_{number}.pth' for number in range(1, 5)]


def test_accumulated_gradients_are_applied_first(tmp_path):
    _, iterations = signalled(tmp_path, 1, **{'optim_wrapper.accumulative_counts': 3})
    assert len(iterations) == 3 and checkpoints(tmp_path) == ['interim_iter_3.pth']


@pytest.mark.parametrize('interval, names, again', [
    (1, ['epoch_1.pth'], 3), (2, ['interim_iter_5.pth'], 2)])
def test_while_validating(tmp_path, monkeypatch, interval, names, again):
    """It ends at once if the epoch is saved; otherwise it finishes the validation and does not repeat it."""
    process = Rising.process

    def signal_then_process(self, *args):
        os.kill(os.getpid(), signal.SIGTERM)
        process(self, *args)

    monkeypatch.setattr(Rising, 'process', signal_then_process)
    changes = {'default_hooks.checkpoint.interval': interval}
    Rising.values.clear()
    train(config(tmp_path, **changes))
    assert checkpoints(tmp_path) == names
    assert len(Rising.values) == interval - 1
    monkeypatch.undo()
    Rising.values.clear()
    _, after = train(config(tmp_path, resume=True, **changes))
    assert len(after) == 10 and len(Rising.values) == again


def test_without_a_checkpoint_hook(tmp_path):
    _, iterations = signalled(tmp_path, 2, **{'default_hooks.checkpoint': None})
    assert len(iterations) == 2 and not checkpoints(tmp_path)


def test_the_handler_is_restored(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Diary, 'before_train_epoch', lambda *_: seen.append(
        signal.getsignal(signal.SIGTERM)))
    before = signal.getsignal(signal.SIGTERM)
    runner, _ = train(config(tmp_path))
    hook, = (hook for hook in runner.hooks if isinstance(hook, TerminationHook))
    assert seen[0] == hook._on_signal
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_request_ends_at_once(monkeypatch):
    sent, now = [], [100.0]
    monkeypatch.setattr(termination.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(termination.os, 'kill', lambda *words: sent.append(words))
    before = signal.getsignal(signal.SIGTERM)
    hook = TerminationHook()
    try:
        hook._on_signal(signal.SIGTERM, None)
        now[0] += 1  # torchrun forwards the signal that the cluster has sent to all
        hook._on_signal(signal.SIGTERM, None)
        assert not sent
        now[0] += 9
        hook._on_signal(signal.SIGTERM, None)
        assert sent == [(os.getpid(), signal.SIGTERM)]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def _loader_worker(ready):
    termination._start_loader_worker(0, init=None)
    ready.set()
    time.sleep(60)


@pytest.mark.skipif(not hasattr(signal, 'sigwaitinfo'), reason='no way to see who sent a signal')
def test_a_loader_worker_ends_with_its_parent_only():
    context = torch.multiprocessing.get_context('fork')
    ready = context.Event()
    worker = context.Process(target=_loader_worker, args=(ready, ), daemon=True)
    worker.start()
    assert ready.wait(20)
    # A separate shell is the sender, not the parent.
    os.system(f'kill -TERM {worker.pid}')
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


@pytest.mark.slow
def test_forked_processes_end_when_they_are_told_to():
    """Some evaluators fork a pool while training runs, and wait for its end."""
    script = (
        'import multiprocessing, signal\n'
        'import deqdet\n'
        'from deqdet.training.termination import TerminationHook\n'
        'hook = TerminationHook()\n'
        'signal.signal(signal.SIGTERM, hook._on_signal)\n'
        'pool = multiprocessing.get_context("fork").Pool(2)\n'
        'assert pool.map(abs, [-1, -2]) == [1, 2]\n'
        'pool.terminate()\n'
        'pool.join()\n'
        'assert hook._asked_at is None\n')
    subprocess.run([sys.executable, '-c', script], check=True, timeout=60,
                   env=dict(os.environ, PYTHONPATH=str(ROOT / 'projects'), OMP_NUM_THREADS='1'))
