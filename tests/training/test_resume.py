"""--resume takes the last complete checkpoint, or starts from the beginning."""

import os
import shutil

import pytest
import torch
from deqdet.training.resume import check_start, find_complete_checkpoint, make_resumable
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from refusals import refused


def save(path, **more):
    content = dict(state_dict=dict(weight=torch.zeros(1000)), meta=dict(seed=7), message_hub={},
                   optimizer={})
    torch.save({**content, **more}, path)
    return path


def age(path, seconds):
    os.utime(path, (1e9 - seconds, 1e9 - seconds))


def truncate(path):
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


@pytest.fixture
def run(tmp_path):
    """A work dir with the checkpoints of two epochs and of the best model."""
    for number, name in enumerate(['epoch_2.pth', 'epoch_1.pth']):
        age(save(tmp_path / name), number)
    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), meta={}, message_hub={}),
               tmp_path / 'best_epoch_2.pth')
    (tmp_path / 'last_checkpoint').write_text(f'{tmp_path}/epoch_2.pth')
    return tmp_path


def found(run):
    path = find_complete_checkpoint(str(run))
    return path and os.path.basename(path)


def test_the_last(run, capsys):
    age(run / 'epoch_2.pth', 9)
    assert found(run) == 'epoch_2.pth' and not capsys.readouterr().out


@pytest.mark.parametrize('damage', [truncate, os.remove, lambda path: path.write_bytes(b'')])
def test_a_last_one_that_is_not_complete(run, capsys, damage):
    damage(run / 'epoch_2.pth')
    assert found(run) == 'epoch_1.pth'
    line = capsys.readouterr().out
    assert f'{run}/epoch_2.pth' in line and f'{run}/epoch_1.pth' in line


@pytest.mark.parametrize('content', ['', ' \n', None, '/moved/epoch_2.pth'])
def test_a_note_that_says_nothing(run, content, capsys):
    (run / 'last_checkpoint').unlink()
    if content is not None:
        (run / 'last_checkpoint').write_text(content)
    assert found(run) == 'epoch_2.pth'
    assert capsys.readouterr().out.count('\n') == 1


def test_a_run_that_saves_no_optimiser(run, capsys):
    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), meta={}, message_hub={}),
               run / 'epoch_2.pth')
    assert found(run) == 'epoch_2.pth' and not capsys.readouterr().out


def test_nothing_complete(run, capsys):
    truncate(run / 'epoch_1.pth')
    truncate(run / 'epoch_2.pth')
    cfg = Config(dict(resume=True, work_dir=str(run)))
    check_start(cfg)
    assert not cfg.resume and cfg.load_from is None
    assert f'no complete checkpoint in {run}' in capsys.readouterr().out


def test_nothing_at_all(tmp_path, capsys):
    cfg = Config(dict(resume=True, work_dir=str(tmp_path / 'new')))
    check_start(cfg)
    assert not cfg.resume
    assert f'no complete checkpoint in {tmp_path}' in capsys.readouterr().out


def test_one_with_code_is_refused_not_passed_over(run, capsys):

    class Code:

        def __reduce__(self):
            return os.mkdir, (str(run / 'made'), )

    save(run / 'epoch_2.pth', extra=Code())
    with refused('untrusted-checkpoint', 'epoch_2.pth', '--trust-checkpoint'):
        found(run)
    assert not (run / 'made').exists()


def test_a_resumed_run_has_the_seed_of_its_checkpoint(run, capsys):
    cfg = Config(dict(resume=True, work_dir=str(run), randomness=dict(deterministic=True)))
    check_start(cfg)
    assert cfg.load_from == f'{run}/epoch_2.pth' and cfg.resume
    assert cfg.randomness == dict(deterministic=True, seed=7)
    assert not capsys.readouterr().out
    cfg.randomness.seed = 1
    check_start(cfg)
    assert cfg.randomness.seed == 7
    assert 'seed is 7' in (line := capsys.readouterr().out) and ' 1 ' in line


def test_a_file_of_its_own(run):
    with refused('missing-file', 'gone.pth'):
        check_start(Config(dict(load_from='gone.pth')))
    cfg = Config(dict(load_from=f'{run}/epoch_1.pth', randomness=dict(seed=1)))
    check_start(cfg)
    # Initial weights contain nothing about this run.
    assert cfg.randomness.seed == 1
    cfg.resume = True
    check_start(cfg)
    assert cfg.load_from.endswith('epoch_1.pth') and cfg.randomness.seed == 7


def test_workers_speak_once(run, capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    (run / 'last_checkpoint').unlink()
    assert found(run) == 'epoch_2.pth' and not capsys.readouterr().out


@pytest.mark.parametrize('loop', [
    dict(type='EpochBasedTrainLoop', max_epochs=2), dict(by_epoch=True, max_epochs=2),
    dict(type='mmengine.EpochBasedTrainLoop', max_epochs=2)])
def test_parts_of_mmengine_are_replaced(loop):
    cfg = Config(dict(
        train_cfg=loop, custom_hooks=[dict(type=CheckpointHook, interval=2)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=3))))
    make_resumable(cfg)
    assert cfg.train_cfg == dict(type='ResumableTrainLoop', max_epochs=2)
    assert cfg.default_hooks.checkpoint == dict(type='CompleteCheckpointHook', max_keep_ckpts=3)
    assert cfg.custom_hooks[0] == dict(type='CompleteCheckpointHook', interval=2)


def test_others_stay():
    cfg = Config(dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=3),
                      default_hooks=dict(checkpoint=None, logger=dict(type='LoggerHook'))))
    make_resumable(cfg)
    assert cfg.train_cfg.type == 'IterBasedTrainLoop' and cfg.default_hooks.checkpoint is None
    silent = Config(dict(train_cfg=None))
    make_resumable(silent)
    assert silent.default_hooks.checkpoint.type == 'CompleteCheckpointHook'


def test_a_copied_work_dir_goes_on_from_its_own_files(run, tmp_path, capsys):
    copy = tmp_path / 'copy'
    shutil.copytree(run, copy)
    assert find_complete_checkpoint(str(copy)) == str(copy / 'epoch_2.pth')
    assert capsys.readouterr().out.count('\n') == 1


@pytest.mark.parametrize('meta', [None, [], {}])
def test_a_checkpoint_without_meta(run, meta):
    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), meta=meta), run / 'other.pth')
    cfg = Config(dict(load_from=str(run / 'other.pth'), randomness=dict(seed=3), work_dir=str(run)))
    check_start(cfg)
    assert cfg.randomness.seed == 3
