"""What a training prints on the terminal, and what only goes to the log file."""

import io
import logging
import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from deqdet.compat.building import part_of
from deqdet.training.accumulation import AccumulatingRunner
from deqdet.training.console import TerminalHook, _losses, _words, runner_builder
from deqdet.training.running import runner_of
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, print_log
from refusals import refused
from training import toy

#: An installed package that gives each kind of message; the user cannot change these.
BELOW = '''
def talk(logger):
    print('printed', 'below')
    warnings.warn('warned below')
    logger.warning('logged below')
    logger.error('an error below')
'''

LOGGED = ('System environment:', 'Config:\n', 'Hooks will be executed', 'Epoch(train) [3][5/5]')


class Talks(Hook):
    """A user's hook."""

    def before_train(self, runner):
        print('printed here')
        warnings.warn('warned here', stacklevel=2)  # reported at the line of mmengine that calls the hook
        runner.logger.info('noted here')
        print_log('logged here', logger='current', level=logging.WARNING)
        warnings.warn('old function', FutureWarning, stacklevel=1)
        below = dict(warnings=warnings)
        exec(compile(BELOW, '/env/site-packages/below.py', 'exec'), below)
        below['talk'](runner.logger)


def train(work_dir, *hooks, verbose=False, shown=True, **changes):
    """Train the toy; returns the text of its log file."""
    with runner_builder(AccumulatingRunner, verbose=verbose, shown=shown) as build:
        runner = build(toy.config(work_dir, **changes))
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
    return Path(runner.logger.log_file).read_text()


def test_few_lines_and_a_complete_log(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    log = train('work')
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if 'warnings of other packages' not in line]
    assert re.fullmatch(r'training: 3 epochs, 15 iterations; the log is work/\w+/\w+\.log', lines[0])
    for epoch in (1, 2, 3):
        trained, evaluated = lines[2 * epoch - 1:2 * epoch + 1]
        assert re.fullmatch(rf'epoch {epoch}/3: loss \d+\.\d\d(, \d:\d\d:\d\d left)?', trained)
        assert re.fullmatch(r'evaluation: rising \d+\.000', evaluated)
    assert re.fullmatch(r'done in 0:\d\d:\d\d: results are in work', lines[7]) and len(lines) == 8
    assert not set('\x1b\r') & set(out)
    assert all(part in log for part in LOGGED) and 'Epoch(val) [3][5/5]' in log


def test_verbose_shows_what_is_logged(tmp_path, capsys):
    train(tmp_path, verbose=True)
    out = capsys.readouterr().out
    assert all(part in out for part in LOGGED)
    assert 'training: 3 epochs' not in out


def test_other_workers_print_nothing(tmp_path, capfd):
    log = train(tmp_path, Talks(), shown=False)
    captured = capfd.readouterr()
    assert captured.out.splitlines() == ['error: an error below'] and not captured.err
    assert 'printed below' in log


def test_who_speaks(tmp_path, capfd):
    log = train(tmp_path, Talks())
    captured = capfd.readouterr()
    begin = captured.out.index('printed here')
    lines = captured.out[begin:].splitlines()
    assert lines[:5] == ['printed here', 'warning: warned here', 'noted here', 'warning: logged here',
                         'error: an error below']
    count = int(re.search(r'^(\d+) warnings of other packages are in ', captured.out, re.MULTILINE)[1])
    assert count >= 3 and not captured.err
    for message in ('warned below', 'logged below', 'old function'):
        assert message in log and message not in captured.out
    assert re.search(r'INFO - printed below$', log, re.MULTILINE)


def test_a_terminal_has_a_bar(tmp_path, monkeypatch):
    monkeypatch.setenv('TERM', 'xterm')
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, 'stdout', terminal)
    train(tmp_path)
    drawn = terminal.getvalue()
    assert '\x1b[' in drawn and '━' in drawn and '/15' in drawn
    assert 'evaluation: rising' in drawn and 'System environment' not in drawn


@pytest.mark.parametrize('is_terminal', [False, True])
def test_a_run_outlives_its_terminal(tmp_path, monkeypatch, is_terminal):
    class Gone(io.StringIO):
        encoding = 'latin-1'

        def write(self, text):
            text.encode(self.encoding)
            raise BrokenPipeError

        def isatty(self):
            return is_terminal

    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setattr(sys, 'stdout', Gone())
    monkeypatch.setattr(Talks, 'before_train', lambda self, runner: runner.logger.info('\u4e2d'))
    assert 'Epoch(val) [3][5/5]' in train(tmp_path, Talks())


def test_after_an_error_everything_is_as_before(tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise RuntimeError('of the hook')

    monkeypatch.setattr(Talks, 'before_train', fail)
    before = sys.stdout, warnings.showwarning
    with pytest.raises(RuntimeError, match='of the hook'):
        train(tmp_path, Talks())
    assert (sys.stdout, warnings.showwarning) == before
    assert 'done in' not in capsys.readouterr().out


@pytest.mark.parametrize('names, words', [
    (['loss', 'init_loss_cls', 'init_pos_acc', 'iter8_loss_cls', 'iter8_pos_acc', 'iter8_loss_bbox',
      'iter8_loss_iou'], 'loss 0.00 (iter8 cls 3.000 bbox 5.000 iou 6.000)'),
    (['loss', 's0.loss_cls', 's5.loss_cls', 's5.loss_bbox'], 'loss 0.00 (s5 cls 2.000 bbox 3.000)'),
    (['loss', 'loss_cls'], 'loss 0.00 (cls 1.000)'),
    (['lr'], ''),
])
def test_losses_of_the_last_supervised_state(names, words):
    scalars = {f'train/{name}': HistoryBuffer([float(number)], [1]) for number, name in enumerate(names)}
    runner = SimpleNamespace(log_processor=SimpleNamespace(window_size=10),
                             message_hub=SimpleNamespace(log_scalars=scalars))
    assert _losses(runner) == words


def test_metrics_of_boxes_and_masks():
    names = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l']
    boxes = {f'coco/bbox_{name}': 0.5 for name in names}
    masks = {f'coco/segm_{name}': 0.25 for name in names}
    in_words = ', '.join(f'bbox_{name} 0.500' for name in names)
    assert _words(boxes) == _words({**boxes, 'others': 'none'}) == in_words
    of_masks = 'segm_mAP 0.250, segm_mAP_50 0.250, segm_mAP_75 0.250'
    assert _words({**boxes, **masks}) == f'{in_words}, {of_masks}'
    assert _words(masks) == ', '.join(f'segm_{name} 0.250' for name in names)


def test_the_runner_of_a_config(tmp_path, monkeypatch):
    cfg = toy.config(tmp_path, runner_type='AccumulatingRunner', launcher='none')
    with runner_of(cfg, verbose=False) as runner:
        assert any(isinstance(hook, TerminalHook) for hook in runner.hooks)
    # Without a launcher RANK belongs to another program. Another Runner also names what it builds.
    monkeypatch.setenv('RANK', '1')
    cfg = toy.config(tmp_path, runner_type='Runner', launcher='none', randomness=dict(seed=1, sead=2))
    with pytest.raises(TypeError) as error, runner_of(cfg, verbose=False):
        pass
    assert part_of(error.value)[0] == 'randomness'
    with refused('unknown-type', 'runner_type', "'Nobody'", 'custom_imports'), runner_of(
            toy.config(tmp_path, runner_type='Nobody', launcher='none')):
        pass
