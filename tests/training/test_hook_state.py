"""After a resume, hooks continue with their counters."""

import math

import pytest
import torch
from deqdet.training.equilibrium_hook import EquilibriumHook
from mmengine.hooks import EarlyStoppingHook
from training.toy import Rising, config, train

STOP = dict(type='EarlyStoppingHook', monitor='rising', rule='greater', patience=2, min_delta=0.1)


@pytest.fixture(autouse=True)
def metric(monkeypatch):
    """A metric whose first value is the best."""
    monkeypatch.setattr(Rising, 'compute_metrics', lambda *_: dict(rising=0.5))


def changes(*hooks, kill_after=None, **stop):
    hooks = [dict(type='Diary', kill_after=kill_after), dict(STOP, **stop), *hooks]
    return {'train_cfg.max_epochs': 6, 'custom_hooks': hooks, 'default_hooks.checkpoint.interval': 2}


def epochs(iterations):
    return sorted({row[0] + 1 for row in iterations})


def lines_of(work_dir):
    text = max(work_dir.glob('*/*.log'), key=lambda path: path.stat().st_mtime_ns).read_text()
    return [line.split('resume: ')[1] for line in text.splitlines() if 'resume: ' in line]


def test_a_stopped_training_stays_stopped(tmp_path):
    _, first = train(config(tmp_path, **changes()))
    assert epochs(first) == [1, 2, 3]
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_3.pth'), 'between two regular ones'
    _, after = train(config(tmp_path, resume=True, **changes()))
    line, = lines_of(tmp_path)
    assert not after
    assert 'EarlyStoppingHook' in line and 'epoch 3 (rising, best 0.5)' in line and 'custom_hooks' in line
    # With more patience it continues. The old hook has counted to two.
    _, after = train(config(tmp_path, resume=True, **changes(patience=3)))
    assert epochs(after) == [4]
    assert 'another patience' in ' '.join(lines_of(tmp_path))


@pytest.mark.parametrize('kill_after, save_best', [(13, None), (11, None), (12, 'rising'), (8, 'rising')])
def test_patience_goes_on(tmp_path, kill_after, save_best):
    """From a checkpoint that was saved before or after the validation."""
    more = {'default_hooks.checkpoint.interval': 1, 'default_hooks.checkpoint.save_best': save_best,
            'default_hooks.checkpoint.rule': 'greater'}
    train(config(tmp_path, **{**changes(kill_after=kill_after), **more}))
    _, after = train(config(tmp_path, resume=True, **{**changes(), **more}))
    assert epochs(after)[-1] == 3


def test_states_are_loaded_safely_and_belong_to_their_hook(tmp_path):
    more = changes(dict(STOP, monitor='rising', patience=9), dict(type='EquilibriumHook'))
    more['train_cfg.max_epochs'] = 1
    runner, _ = train(config(tmp_path, **more))
    states = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['hook_states']
    assert states['EarlyStoppingHook']['settings']['patience'] == 2
    assert states['EarlyStoppingHook.2']['settings']['patience'] == 9
    assert states['EquilibriumHook'] == {}
    assert states['EarlyStoppingHook']['best_score'] == -math.inf, 'saved before its validation'
    hook = EquilibriumHook()
    hook.load_state_dict(dict(still=2))
    assert hook.state_dict() == dict(still=2)
    more['custom_hooks'][1]['monitor'], more['custom_hooks'][1]['strict'] = 'other', False
    runner, _ = train(config(tmp_path, resume=True, **more))
    first = next(hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook))
    assert first.wait_count == 0
    assert any(all(word in line for word in ('EarlyStoppingHook', 'other', 'rising'))
               for line in lines_of(tmp_path))
