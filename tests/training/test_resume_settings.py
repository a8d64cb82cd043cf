"""Differences between the settings of a checkpoint and the config that resumes it."""

import shutil

import numpy as np
import pytest
import torch
from deqdet.checkpoints.recorded_config import Difference, differences
from deqdet.training.resume_hook import take_new_schedule
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from refusals import refused
from torch.optim import SGD
from training.toy import Diary, Rising, Toy, config, train

WARM_UP = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3)


def cosine(epochs):
    return [WARM_UP, dict(type='CosineAnnealingLR', T_max=epochs, end=epochs, convert_to_iter_based=True)]


def rates(iterations):
    return [row[3] for row in iterations]


def resume(work_dir, new_schedule=False, **changes):
    """Resume; returns the log lines about it, and the iterations."""
    cfg = config(work_dir, resume=True, **changes)
    if new_schedule:
        take_new_schedule(cfg)
    runner, iterations = train(cfg)
    text = max(work_dir.glob('*/*.log'), key=lambda path: path.stat().st_mtime_ns).read_text()
    return [line.split('resume: ')[1] for line in text.splitlines() if 'resume: ' in line], iterations


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A training of two epochs; its cosine schedule ends with them."""
    folder = tmp_path_factory.mktemp('saved')
    train(config(folder, param_scheduler=cosine(2), **{'train_cfg.max_epochs': 2}))
    return folder


@pytest.fixture
def run(saved, tmp_path):
    """A copy of its work dir, for resuming."""
    (tmp_path / 'epoch_2.pth').write_bytes((saved / 'epoch_2.pth').read_bytes())
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    return tmp_path


def test_a_longer_cosine_is_refused_or_really_followed(run, tmp_path_factory):
    longer = {'param_scheduler': cosine(4), 'train_cfg.max_epochs': 4}
    with refused('resume-mismatch', 'epoch_2.pth', 'epoch 4', 'param_scheduler.1.T_max', '10', '20',
                 '--resume --new-schedule'):
        resume(run, **longer)
    lines, after = resume(run, new_schedule=True, **longer)
    _, whole = train(config(tmp_path_factory.mktemp('whole'), **longer))
    assert len(after) == 10 and rates(after) == rates(whole)[10:] and min(rates(after)[:5]) > 0.01
    assert 'epoch 2' in lines[0]
    # From now on the checkpoint has this schedule, too.
    lines, again = resume(run, **longer)
    assert len(lines) == 1 and 'nothing is left to train' in lines[0] and not again


def test_more_epochs_alone_have_nothing_to_learn_with(run):
    with refused('resume-mismatch', 'param_scheduler.1', '10', '4 epochs', '--new-schedule'):
        resume(run, param_scheduler=cosine(2), **{'train_cfg.max_epochs': 4})


def test_more_epochs_of_steps_need_no_word(tmp_path):
    """A schedule of steps has no end, so it continues, here with a milestone in the added epoch."""
    _, whole = train(config(tmp_path / 'whole'))
    train(config(tmp_path / 'run', **{'train_cfg.max_epochs': 2}))
    lines, after = resume(tmp_path / 'run')
    assert rates(after) == rates(whole)[10:] and 'epoch 2' in lines[0]


@pytest.mark.parametrize('change, batches', [
    ({'train_dataloader.dataset.size': 20}, 10), ({'train_dataloader.batch_size': 5}, 2)])
def test_other_epochs_of_a_schedule_in_iterations(tmp_path, change, batches):
    """Else the cosine would end too early, or not at all."""
    train(config(tmp_path / 'run', param_scheduler=cosine(3), **{'custom_hooks.0.kill_after': 12}))
    changes = {'param_scheduler': cosine(3), **change}
    with refused('resume-mismatch', 'epoch_2.pth', f'{batches} iterations', 'for 5',
                 'param_scheduler.1.T_max', 15, 3 * batches, '--resume --new-schedule'):
        resume(tmp_path / 'run', **changes)
    _, whole = train(config(tmp_path / 'whole', **changes))
    lines, after = resume(tmp_path / 'run', new_schedule=True, **changes)
    assert len(after) == batches and rates(after) == rates(whole)[2 * batches:] and 'epoch 2' in lines[0]


def test_other_epochs_after_the_end_of_a_schedule(tmp_path):
    changes = {'param_scheduler': [WARM_UP, dict(type='PolyLR', eta_min=0, by_epoch=False, end=15)]}
    train(config(tmp_path, **changes, **{'custom_hooks.0.kill_after': 12}))
    with refused('resume-mismatch', '10 iterations', 'param_scheduler.1 ends at 15', '--new-schedule'):
        resume(tmp_path, **changes, **{'train_dataloader.dataset.size': 20})


def test_other_epochs_of_a_schedule_in_epochs(tmp_path):
    changes = {'param_scheduler': [dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True),
                                   dict(type='CosineAnnealingLR', T_max=3)]}
    _, whole = train(config(tmp_path / 'whole', **changes))
    train(config(tmp_path / 'run', **changes, **{'custom_hooks.0.kill_after': 12}))
    lines, after = resume(tmp_path / 'run', **changes, **{'train_dataloader.dataset.size': 20})
    assert len(after) == 10 and set(rates(after)) == set(rates(whole)[10:])
    assert lines[-1].startswith('train_dataloader.dataset.size is 20')


def plateau(**more):
    """Halves the learning rate after each epoch that is worse than the first: the metric rises."""
    return {'param_scheduler': [
        dict(type='ReduceOnPlateauLR', monitor='rising', rule='less', factor=0.5, **{'patience': 0, **more})]}


@pytest.fixture
def followed(tmp_path, monkeypatch):
    """Three epochs, whose schedule follows a metric."""
    monkeypatch.setattr(Rising, 'values', [])
    train(config(tmp_path / 'run', **plateau()))
    return tmp_path / 'run'


def test_more_epochs_of_a_schedule_that_follows_a_metric(followed, tmp_path, monkeypatch):
    lines, after = resume(followed, **plateau(), **{'train_cfg.max_epochs': 5})
    monkeypatch.setattr(Rising, 'values', [])
    _, whole = train(config(tmp_path / 'whole', **plateau(), **{'train_cfg.max_epochs': 5}))
    assert rates(after) == rates(whole)[15:] == [0.025] * 5 + [0.0125] * 5
    assert len(lines) == 1 and 'epoch 5 instead of 3' in lines[0]


@pytest.mark.parametrize('changes, words', [
    (plateau(threshold=0.5), 'param_scheduler.0.threshold'),
    (plateau(end=4), 'param_scheduler.0.end'),
    ({'param_scheduler': [WARM_UP, *plateau()['param_scheduler']]}, 'ReduceOnPlateauLR'),
])
def test_advice_for_a_schedule_that_follows_a_metric(followed, changes, words):
    """It names no option that is refused."""
    with refused('resume-mismatch', words, 'load_from=FILE') as caught:
        resume(followed, **changes, **{'train_cfg.max_epochs': 5})
    assert '--new-schedule' not in caught.value.message
    lines, _ = resume(followed, **plateau(patience=3), **{'train_cfg.max_epochs': 3})
    assert lines[0].startswith('param_scheduler.0.patience is 0') and '--new-schedule' not in lines[0]


def test_an_unchanged_command_says_nothing(tmp_path):
    """With parameter groups, scaled learning rates and every kind of schedule; also within an epoch."""
    changes = {
        'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 4,
        'optim_wrapper.paramwise_cfg': dict(bias_lr_mult=2.0, custom_keys={'layers.2': dict(lr_mult=0.5)}),
        'optim_wrapper.accumulative_counts': 2,
        'auto_scale_lr': dict(enable=True, base_batch_size=16),
        'param_scheduler': [
            dict(type='OneCycleLR', eta_max=0.1, total_steps=8, end=3, by_epoch=False), WARM_UP,
            dict(type='StepLR', step_size=1, gamma=0.9), dict(type='ExponentialLR', gamma=0.99),
            dict(type='PolyLR', eta_min=1e-4, begin=1, end=3, convert_to_iter_based=True),
            dict(type='CosineRestartLR', periods=[1, 1], restart_weights=[1, 0.5], eta_min=0, begin=1, end=3),
            dict(type='ConstantMomentum', factor=0.9, end=2)]}
    _, whole = train(config(tmp_path / 'whole', **changes))
    train(config(tmp_path / 'run', **changes, **{'custom_hooks.0.kill_after': 9}))
    shutil.copytree(tmp_path / 'run', tmp_path / 'new')
    lines, after = resume(tmp_path / 'run', **changes)
    assert not lines and rates(after) == rates(whole)[8:]
    # A "new" schedule that equals the old one changes no number.
    _, after = resume(tmp_path / 'new', new_schedule=True, **changes)
    assert np.array_equal([row[3:] for row in after], [row[3:] for row in whole[8:]])


def test_what_is_kept_and_what_is_lost(tmp_path):
    short = {'train_cfg.max_epochs': 1, 'param_scheduler': [dict(type='MultiStepLR', milestones=[1])]}
    train(config(tmp_path, **{'custom_hooks.0.kill_after': 7}))
    other = {'optim_wrapper.optimizer.lr': 0.03, 'optim_wrapper.optimizer.weight_decay': 0.5,
             'optim_wrapper.accumulative_counts': 2, 'param_scheduler.1.milestones': [2, 3]}
    lines, after = resume(tmp_path, **other, **{'custom_hooks.0.kill_after': 7})
    assert rates(after) == pytest.approx([0.05, 0.05])
    expected = [('optim_wrapper.optimizer.lr is 0.1', '0.03'),
                ('param_scheduler.1.milestones is [1, 2]', '[2, 3]'),
                ('optim_wrapper.optimizer.weight_decay is 0.01', '0.5'),
                ('optim_wrapper.accumulative_counts is 2', 'not set')]
    assert len(lines) == len(expected)
    assert all(line.startswith(used) and other in line for line, (used, other) in zip(lines, expected))
    # A schedule of steps may continue.
    lines, after = resume(tmp_path, **{'train_cfg.max_epochs': 4})
    assert len(lines) == 1 and 'after epoch 1' in lines[0]
    assert len(after) == 15
    with refused('resume-mismatch', 'param_scheduler', '(MultiStepLR)', '--new-schedule',
                 '(start_factor=0.1, end_factor=1.0, total_iters=6; milestones='):
        resume(tmp_path, **short)


@MODELS.register_module()
class Pair(Toy):
    """A model with one optimiser per layer."""

    def train_step(self, data, optim_wrapper):
        loss = self(*data)['loss']
        for wrapper in optim_wrapper.values():
            wrapper.zero_grad()
        loss.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
        return dict(loss=loss)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PairConstructor:
    """Builds its optimisers."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.rates = optim_wrapper_cfg['rates']

    def __call__(self, model):
        layers = dict(first=model.layers[0], second=model.layers[2])
        return OptimWrapperDict(**{name: OptimWrapper(SGD(layer.parameters(), lr=self.rates[name]))
                                   for name, layer in layers.items()})


def test_two_optimisers(tmp_path, monkeypatch):
    monkeypatch.setattr(Diary, 'rate', 'second.lr')
    changes = {'model.type': 'Pair', 'optim_wrapper': dict(
        constructor='PairConstructor', rates=dict(first=0.01, second=0.02), _delete_=True)}
    _, whole = train(config(tmp_path / 'whole', **changes))
    train(config(tmp_path / 'run', **changes, **{'custom_hooks.0.kill_after': 7}))
    lines, after = resume(tmp_path / 'run', **changes, **{'custom_hooks.0.kill_after': 8})
    assert not lines and rates(after) == rates(whole)[5:8]
    changes['optim_wrapper']['rates'] = dict(first=0.01, second=0.03)
    lines, after = resume(tmp_path / 'run', **changes, **{'custom_hooks.0.kill_after': 8})
    assert lines[0].startswith('optim_wrapper.optimizer.lr is 0.02') and '0.03' in lines[0]
    lines, after = resume(tmp_path / 'run', new_schedule=True, **changes)
    assert rates(after) == pytest.approx([1.5 * rate for rate in rates(whole)[5:]])


def test_more_epochs_with_two_optimisers_name_the_one_that_is_not_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(Diary, 'rate', 'second.lr')
    changes = {'model.type': 'Pair', 'optim_wrapper': dict(
        constructor='PairConstructor', rates=dict(first=0.01, second=0.02), _delete_=True)}
    train(config(tmp_path, **changes, **{'train_cfg.max_epochs': 2}))
    changes['optim_wrapper']['rates'] = dict(first=0.01, second=0.04)
    lines, after = resume(tmp_path, **changes)
    assert len(after) == 5 and max(rates(after)) > 0.002
    assert 'epoch 2' in lines[0] and 'second' in lines[1] and 'first' not in lines[1]


@pytest.mark.parametrize('before, now, best', [
    (('high', 'greater'), ('low', 'greater'), 'best_low_epoch_2.pth'),
    (('low', 'greater'), ('high', 'greater'), 'best_high_epoch_2.pth'),
    (('high', 'less'), ('high', 'greater'), 'best_high_epoch_2.pth'),
    (('high', 'greater'), (['high', 'low'], 'greater'), 'best_low_epoch_2.pth'),
    (('high', 'greater'), (['high'], ['greater']), None),
])
def test_another_metric_or_rule_has_a_best_of_its_own(tmp_path, monkeypatch, before, now, best):
    """Metrics do not change, so the first validation is the best: of epoch 1, or again of epoch 2."""
    monkeypatch.setattr(Rising, 'compute_metrics', lambda *_: dict(high=90.0, low=0.5))

    def saving(metrics, rule):
        return {'default_hooks.checkpoint.save_best': metrics, 'default_hooks.checkpoint.rule': rule}

    train(config(tmp_path, **saving(*before), **{'train_cfg.max_epochs': 2}))
    lines, _ = resume(tmp_path, **saving(*now))
    names = {path.name for path in tmp_path.glob('best_*')}
    assert f'best_{before[0]}_epoch_1.pth' in names and (names == {'best_high_epoch_1.pth'}) == (best is None)
    assert best is None or best in names
    assert len([line for line in lines if 'save_best' in line]) == (best is not None)


@pytest.mark.parametrize('part', ['custom_hooks', 'model'])
def test_a_part_that_is_empty_on_one_side(part):
    """The difference is what the other side has."""
    hook = dict(type='EMAHook', momentum=0.1)
    empty, filled = ({part: []}, {part: [hook]}) if part == 'custom_hooks' else (
        {part: dict(ema={})}, {part: dict(ema=hook)})
    key = 'custom_hooks.EMAHook' if part == 'custom_hooks' else 'model.ema'
    values = [(f'{key}.type', 'EMAHook'), (f'{key}.momentum', 0.1)]
    assert differences(filled, empty) == [Difference(name, value, None) for name, value in values]
    assert differences(empty, filled) == [Difference(name, None, value) for name, value in values]


class TestStateThatDoesNotFit:

    @pytest.mark.parametrize('change, words', [
        ({'optim_wrapper.paramwise_cfg': dict(bias_lr_mult=2.0)},
         ['1 parameter groups', '4', 'optim_wrapper.paramwise_cfg']),
        ({'optim_wrapper.optimizer': dict(type='SGD', lr=0.1, momentum=0.9, _delete_=True)},
         ['AdamW', 'optim_wrapper.optimizer is SGD']),
        ({'optim_wrapper.optimizer.type': 'Adam'}, ['AdamW', 'optim_wrapper.optimizer is Adam']),
        ({'train_cfg': dict(type='IterBasedTrainLoop', max_iters=20, _delete_=True)},
         ['epochs', 'train_cfg', 'iterations']),
    ])
    def test_one_line(self, run, change, words):
        with refused('resume-mismatch', 'epoch_2.pth', *words, '--cfg-options load_from=FILE', '--resume'):
            resume(run, **{'param_scheduler': cosine(2), 'train_cfg.max_epochs': 2, **change})

    def resume_changed(self, run, change, **changes):
        checkpoint = torch.load(run / 'epoch_2.pth', weights_only=False)
        change(checkpoint)
        torch.save(checkpoint, run / 'epoch_2.pth')
        return resume(run, **{'param_scheduler': cosine(2), 'train_cfg.max_epochs': 2, **changes})

    @pytest.mark.parametrize('change, words', [
        (lambda saved: saved.pop('optimizer'), 'state of the optimiser'),
        (lambda saved: saved.update(optimizer={}), 'state of the optimiser'),
        (lambda saved: saved['meta'].pop('epoch'), 'epoch and iteration (meta)'),
        (lambda saved: saved.update(ema_state_dict={}), 'EMAHook'),
        (lambda saved: saved['optimizer']['state'][0].update(exp_avg=torch.zeros(3)), 'shape (3,)'),
    ])
    def test_a_checkpoint_that_lacks_something(self, run, change, words):
        with refused('resume-mismatch', words):
            self.resume_changed(run, change)

    def test_averages_that_nothing_goes_on_with(self, tmp_path):
        averaged = [dict(type='Diary', kill_after=5), dict(type='EMAHook')]
        train(config(tmp_path, custom_hooks=averaged, **{'default_hooks.checkpoint.by_epoch': False}))
        with refused('resume-mismatch', 'custom_hooks', 'EMAHook'):
            resume(tmp_path)
        averaged[1]['momentum'] = 0.1
        lines, _ = resume(tmp_path, custom_hooks=averaged[:2])
        assert len(lines) == 1 and lines[0].startswith('custom_hooks.EMAHook.momentum is 0.1')

    def test_a_run_that_saves_no_optimiser_has_its_learning_rate(self, tmp_path):
        changes = {'default_hooks.checkpoint.save_optimizer': False}
        _, whole = train(config(tmp_path / 'whole', **changes))
        train(config(tmp_path / 'run', **changes, **{'custom_hooks.0.kill_after': 12}))
        lines, after = resume(tmp_path / 'run', **changes)
        assert rates(after) == rates(whole)[10:]
        assert 'no state of the optimiser' in lines[0]

    def test_a_scale_of_losses_too_many(self, run):
        """From AmpOptimWrapper on a GPU to float32."""
        lines, _ = self.resume_changed(run, lambda saved: saved['optimizer'].update(
            loss_scaler=dict(scale=65536.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000,
                             _growth_tracker=0)))
        assert 'nothing is left to train' in lines[0]
