"""At every moment there is a complete checkpoint, and none is half written."""

import errno
import os
import types

import pytest
import torch
from deqdet import UsageError
from deqdet.errors import NonFiniteError
from deqdet.files.atomic import AtomicBackend
from deqdet.files.disk import checkpoint_bytes
from deqdet.training.saving import CompleteCheckpointHook
from mmengine.optim import OptimWrapper
from training.toy import config, train


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py')


@pytest.fixture
def events(monkeypatch):
    """File names in the order in which the files are completed (+) and deleted (-)."""
    seen = []
    replace, remove = os.replace, os.remove

    def record_replace(source, target):
        replace(source, target)
        seen.append(f'+{os.path.basename(target)}')

    def record_remove(path):
        remove(path)
        seen.append(f'-{os.path.basename(path)}')

    monkeypatch.setattr(os, 'replace', record_replace)
    monkeypatch.setattr(os, 'remove', record_remove)
    return seen


def kept(number, **more):
    return {'default_hooks.checkpoint.max_keep_ckpts': number,
            **{f'default_hooks.checkpoint.{name}': value for name, value in more.items()}}


class TestBackend:

    def test_writes(self, tmp_path):
        AtomicBackend().put(b'one', tmp_path / 'new' / 'file')
        AtomicBackend().put_text('zwei ü', str(tmp_path / 'new' / 'file'))
        assert AtomicBackend().get_text(tmp_path / 'new' / 'file') == 'zwei ü'
        assert files(tmp_path / 'new') == ['file']

    @pytest.mark.parametrize('step', ['fsync', 'replace'])
    def test_a_failure_leaves_what_was_there(self, tmp_path, monkeypatch, step):
        AtomicBackend().put(b'one', tmp_path / 'file')

        def fail(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, step, fail)
        with pytest.raises(OSError, match='No space') as caught:
            AtomicBackend().put(b'two', tmp_path / 'file')
        assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / 'file')
        assert (tmp_path / 'file').read_bytes() == b'one' and files(tmp_path) == ['file']

    def test_content_is_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch, events):
        fsync = os.fsync
        monkeypatch.setattr(os, 'fsync', lambda file: (events.append('sync'), fsync(file)))
        AtomicBackend().put(b'one', tmp_path / 'file')
        assert events == ['sync', '+file', 'sync']


def test_old_checkpoints_go_last(tmp_path, events):
    train(config(tmp_path, **kept(1)))
    assert [name for name in events if 'unfinished' not in name] == [
        '+epoch_1.pth', '+last_checkpoint',
        '+epoch_2.pth', '+last_checkpoint', '-epoch_1.pth',
        '+epoch_3.pth', '+last_checkpoint', '-epoch_2.pth']


@pytest.mark.parametrize('number, by_epoch, names', [
    (2, True, ['epoch_2.pth', 'epoch_3.pth']),
    (-1, True, ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']),
    (2, False, ['iter_12.pth', 'iter_15.pth'])])
def test_which_are_kept(tmp_path, number, by_epoch, names):
    train(config(tmp_path, **kept(number, by_epoch=by_epoch, interval=1 if by_epoch else 4)))
    assert files(tmp_path) == sorted([*names, 'last_checkpoint'])
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / names[-1])


def test_killed_before_the_old_one_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(CompleteCheckpointHook, '_remove', lambda self, path: None)
    train(config(tmp_path, **kept(1), **{'custom_hooks.0.kill_after': 12}))
    assert files(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']
    monkeypatch.undo()
    train(config(tmp_path, resume=True, **kept(1)))
    assert 'epoch_2.pth' not in files(tmp_path) and 'epoch_3.pth' in files(tmp_path)


def test_the_best_is_replaced_last(tmp_path, events):
    """The metric rises each epoch."""
    train(config(tmp_path, **kept(1, save_best='rising', rule='greater')))
    best = [name for name in events if 'best' in name]
    assert best == ['+best_rising_epoch_1.pth',
                    '+best_rising_epoch_2.pth', '-best_rising_epoch_1.pth',
                    '+best_rising_epoch_3.pth', '-best_rising_epoch_2.pth']
    last = torch.load(tmp_path / 'epoch_3.pth', weights_only=False)['message_hub']['runtime_info']
    assert last['best_ckpt'] == str(tmp_path / 'best_rising_epoch_3.pth')


@pytest.mark.parametrize('best', ['auto', ['rising', 'other']])
def test_a_best_that_stays(tmp_path, best, monkeypatch):
    from training.toy import Rising
    monkeypatch.setattr(Rising, 'compute_metrics', lambda *_: dict(rising=0.5, other=0.5))
    train(config(tmp_path, **kept(1, save_best=best, rule='greater')))
    found = [name for name in files(tmp_path) if name.startswith('best')]
    names = ['rising'] if best == 'auto' else sorted(best)
    assert found == sorted(f'best_{name}_epoch_1.pth' for name in names)


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    train(config(tmp_path, **{'train_cfg.max_epochs': 1}))
    content = (tmp_path / 'epoch_1.pth').read_bytes()
    step = OptimWrapper.step

    def diverge(self, **kwargs):
        step(self, **kwargs)
        next(iter(self.optimizer.param_groups[0]['params'])).data.view(-1)[0] = float('nan')

    monkeypatch.setattr(OptimWrapper, 'step', diverge)
    with pytest.raises(NonFiniteError, match=r'weights are not finite after iteration \d+'):
        train(config(tmp_path, resume=True, **{'default_hooks.checkpoint.max_keep_ckpts': 1}))
    assert (tmp_path / 'epoch_1.pth').read_bytes() == content
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth']


def test_published(tmp_path):
    train(config(tmp_path, **kept(1, published_keys=['meta', 'state_dict'])))
    published, = tmp_path.glob('epoch_3-*.pth')
    assert set(torch.load(published, weights_only=False)) == {'meta', 'state_dict'}


def test_saving_the_last_can_be_left_out(tmp_path):
    train(config(tmp_path, **kept(1, interval=2, save_last=False)))
    assert files(tmp_path) == ['epoch_2.pth', 'last_checkpoint']


def test_another_folder(tmp_path):
    changes = kept(1, out_dir=str(tmp_path / 'there'))
    train(config(tmp_path / 'run', **changes, **{'custom_hooks.0.kill_after': 12}))
    assert files(tmp_path / 'there' / 'run') == ['epoch_2.pth']
    _, after = train(config(tmp_path / 'run', resume=True, **changes))
    assert len(after) == 5


def test_remains_of_a_killed_run_are_removed(tmp_path):
    for name in ('epoch_7.pth.unfinished', 'last_checkpoint.unfinished'):
        (tmp_path / name).write_bytes(b'half')
    train(config(tmp_path))
    assert not list(tmp_path.glob('*.unfinished'))


def test_a_full_disk_is_found_before_training(tmp_path, monkeypatch):
    from deqdet.files import disk
    monkeypatch.setattr(disk.shutil, 'disk_usage', lambda path: type('', (), dict(free=1000)))
    with pytest.raises(UsageError, match='3 checkpoints'):
        train(config(tmp_path))


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    train(config(tmp_path, **kept(1), **{'custom_hooks.0.kill_after': 6}))

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='No space left') as caught:
        train(config(tmp_path, resume=True, **kept(1)))
    assert caught.value.filename == str(tmp_path / 'epoch_2.pth')
    monkeypatch.undo()
    assert files(tmp_path) == ['epoch_1.pth', 'last_checkpoint']
    _, after = train(config(tmp_path, resume=True, **kept(1)))
    assert after[0][1] == 5


def test_a_backend_of_the_config_stays():
    assert CompleteCheckpointHook().backend_args == dict(backend='atomic')
    assert CompleteCheckpointHook(out_dir='s3://bucket').backend_args is None
    assert CompleteCheckpointHook(backend_args=dict(backend='local')).backend_args == dict(
        backend='local')


def test_shared_weights_are_written_once(tmp_path):
    """Copying from a GPU makes one copy per name."""
    shared = torch.nn.Linear(100, 100)
    model = torch.nn.Sequential(torch.nn.Linear(100, 100), *[shared] * 10)
    runner = types.SimpleNamespace(model=model)
    checkpoint = dict(state_dict={name: value.clone() for name, value in model.state_dict().items()})
    CompleteCheckpointHook().before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, tmp_path / 'model.pth')
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    size = checkpoint_bytes(model, wrapper, averaged=False)
    assert size == 2 * 4 * (100 * 100 + 100) <= (tmp_path / 'model.pth').stat().st_size < 1.2 * size
    assert checkpoint['state_dict'].keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(checkpoint['state_dict'][name], value)
