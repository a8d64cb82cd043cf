"""Resume within an epoch, with random numbers that do not depend on earlier ones."""

import random

import numpy as np
import pytest
import torch
from deqdet.training.train_loop import batches_of_epoch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler
from training.toy import Numbers, Rising, config, train

BY_ITER = {'default_hooks.checkpoint.by_epoch': False}


def resumed(work_dir, **changes):
    return train(config(work_dir, resume=True, **changes))


def same(found, expected):
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert np.allclose([row[3:] for row in found], [row[3:] for row in expected], rtol=0, atol=1e-6)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Epoch, iteration, batch, learning rate and loss of each iteration of a run of three epochs."""
    _, iterations = train(config(tmp_path_factory.mktemp('whole')))
    assert [row[:3] for row in iterations] == [(i // 5, i, i % 5) for i in range(15)]
    return iterations


@pytest.mark.parametrize('kill_after', [1, 5, 7, 10, 14, 15])
def test_a_killed_run_goes_on_in_the_epoch(tmp_path, whole, kill_after):
    changes = {**BY_ITER, 'custom_hooks.0.kill_after': kill_after}
    _, before = train(config(tmp_path, **changes))
    same(before, whole[:kill_after])
    _, after = resumed(tmp_path, **BY_ITER)
    same(after, whole[kill_after:])


def test_a_killed_run_goes_on_from_an_older_checkpoint(tmp_path, whole):
    changes = {**BY_ITER, 'default_hooks.checkpoint.interval': 4}
    train(config(tmp_path, **changes, **{'custom_hooks.0.kill_after': 11}))
    _, after = resumed(tmp_path, **changes)
    same(after, whole[8:])


def test_checkpoints_of_epochs(tmp_path, whole):
    train(config(tmp_path, **{'custom_hooks.0.kill_after': 8}))
    _, after = resumed(tmp_path)
    same(after, whole[5:])


def test_a_run_may_be_killed_again_and_again(tmp_path, whole):
    train(config(tmp_path, **BY_ITER, **{'custom_hooks.0.kill_after': 2}))
    found = []
    for kill_after in (3, 4, 8, 9, 15):
        found += resumed(tmp_path, **BY_ITER, **{'custom_hooks.0.kill_after': kill_after})[1]
    same(found, whole[2:])


def test_loader_workers_change_nothing(tmp_path, whole):
    changes = {**BY_ITER, 'train_dataloader.num_workers': 2,
               'train_dataloader.persistent_workers': True}
    train(config(tmp_path, **changes, **{'custom_hooks.0.kill_after': 7}))
    _, after = resumed(tmp_path, **{**changes, 'train_dataloader.num_workers': 1})
    same(after, whole[7:])


def test_skipped_samples_are_not_loaded(tmp_path):
    train(config(tmp_path, **BY_ITER, **{'custom_hooks.0.kill_after': 3}))
    Numbers.loaded.clear()
    resumed(tmp_path, **BY_ITER, **{'custom_hooks.0.kill_after': 5})
    assert len(Numbers.loaded) == 4


def test_a_drawn_seed_is_that_of_the_checkpoint(tmp_path):
    """Without a configured seed; the order of the data also follows it."""
    changes = {**BY_ITER, 'randomness.seed': None, 'train_dataloader.batch_size': 1}
    train(config(tmp_path, **changes, **{'custom_hooks.0.kill_after': 4}))
    Numbers.loaded.clear()
    runner, _ = resumed(tmp_path, **changes)
    seed = torch.load(tmp_path / 'iter_30.pth', weights_only=False)['meta']['seed']
    assert runner.seed == seed == runner.train_dataloader.sampler.seed
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed)).tolist()
    assert Numbers.loaded[:6] == order[4:]


def test_another_number_of_batches_begins_the_epoch_again(tmp_path):
    train(config(tmp_path, **BY_ITER, **{'custom_hooks.0.kill_after': 7}))
    _, after = resumed(tmp_path, **BY_ITER, **{'train_dataloader.batch_size': 5})
    assert [row[:3] for row in after] == [(1, 7, 0), (1, 8, 1), (2, 9, 0), (2, 10, 1)]


def test_another_batch_size_begins_the_epoch_again(tmp_path):
    """Ten numbers give three batches of four, and three full batches of three: the count shows no change."""
    changes = {**BY_ITER, 'train_dataloader.batch_size': 4}
    train(config(tmp_path, **changes, **{'custom_hooks.0.kill_after': 2}))
    Numbers.loaded.clear()
    resumed(tmp_path, **{**BY_ITER, 'train_dataloader.batch_size': 3, 'custom_hooks.0.kill_after': 6,
                         'train_dataloader.drop_last': True})
    assert len(set(Numbers.loaded[:9])) == 9, 'the whole epoch, from its first batch'


def test_a_validation_that_was_not_finished_is_done(tmp_path):
    train(config(tmp_path, **{'custom_hooks.0.kill_after': 7}))
    Rising.values.clear()
    resumed(tmp_path)
    # Again after epoch 1, whose checkpoint was saved before its validation, and after 2 and 3.
    assert len(Rising.values) == 3
    resumed(tmp_path)
    assert len(Rising.values) == 4


def test_noise_is_another_one_in_each_epoch_and_iteration():
    def epoch(number):
        loader = DataLoader(Numbers(), batch_size=2)
        return torch.cat(list(batches_of_epoch(loader, seed=0, epoch=number, skip=0)))[:, 1]

    first, again, second = epoch(0), epoch(0), epoch(1)
    assert torch.equal(first, again)
    assert len({*first.tolist(), *second.tolist()}) == 20


def test_a_sample_that_is_drawn_twice_is_augmented_twice():
    batches = BatchSampler([3, 3, 3], batch_size=3, drop_last=False)
    loader = DataLoader(Numbers(), batch_sampler=batches)
    batch, = batches_of_epoch(loader, seed=0, epoch=0, skip=0)
    assert len(set(batch[:, 1].tolist())) == 3


def test_ranks_draw_different_noise(tmp_path, whole, monkeypatch):
    monkeypatch.setattr('deqdet.training.randomness.get_rank', lambda: 1)
    _, other = train(config(tmp_path, **{'custom_hooks.0.kill_after': 1}))
    assert abs(other[0][4] - whole[0][4]) > 1e-3


def test_a_pipeline_may_draw_for_itself(whole):
    """Seeding does not depend on earlier samples: random numbers depend only on the position."""
    loader = DataLoader(Numbers(), batch_sampler=BatchSampler(
        SequentialSampler(range(10)), 2, drop_last=False))
    expected = torch.cat(list(batches_of_epoch(loader, seed=0, epoch=0, skip=0)))
    random.seed(1)
    found = torch.cat(list(batches_of_epoch(loader, seed=0, epoch=0, skip=3)))
    assert torch.equal(found, expected[6:])


def test_averages_of_the_model_are_resumed(tmp_path):
    def state(run):
        path = tmp_path / run / 'epoch_3.pth'
        return torch.load(path, weights_only=False)['ema_state_dict']

    averaged = [dict(type='Diary', kill_after=None), dict(type='EMAHook')]
    train(config(tmp_path / 'whole', custom_hooks=averaged))
    train(config(tmp_path / 'run', custom_hooks=[dict(type='Diary', kill_after=7), averaged[1]], **BY_ITER))
    resumed(tmp_path / 'run', custom_hooks=averaged)
    whole = state('whole')
    assert all(torch.equal(value, whole[name]) for name, value in state('run').items())


def test_by_iterations(tmp_path):
    changes = {**BY_ITER, 'train_dataloader.sampler.type': 'InfiniteSampler'}
    for kill_after, resume, iterations in ((3, False, [0, 1, 2]), (None, True, [3, 4, 5, 6, 7])):
        cfg = config(tmp_path, resume=resume, **changes, **{'custom_hooks.0.kill_after': kill_after})
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=8)
        cfg.param_scheduler = None
        _, found = train(cfg)
        assert [row[1] for row in found] == iterations


class Stream(IterableDataset):
    """A dataset without indices."""

    def __iter__(self):
        return iter(range(6))


def test_other_loaders_are_skipped_after_loading():
    loader = DataLoader(Stream(), batch_size=2)
    found = list(batches_of_epoch(loader, seed=0, epoch=0, skip=1))
    assert [batch.tolist() for batch in found] == [[2, 3], [4, 5]]
