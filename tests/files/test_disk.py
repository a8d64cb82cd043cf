"""Read-only folders and full disks are found before training."""

import io

import pytest
import torch
from deqdet.files import disk
from deqdet.files.disk import check_free_space, check_work_dir
from mmengine.optim import OptimWrapper, OptimWrapperDict
from refusals import refused
from torch import nn


def test_a_work_dir_is_made(tmp_path):
    check_work_dir(str(tmp_path / 'a' / 'b'))
    assert (tmp_path / 'a' / 'b').is_dir() and not list((tmp_path / 'a' / 'b').iterdir())


def test_a_work_dir_below_a_file(tmp_path):
    (tmp_path / 'file').write_text('')
    with refused('output-failed', 'file/run', 'Not a dir', '--work-dir'):
        check_work_dir(str(tmp_path / 'file' / 'run'))


def test_a_work_dir_that_is_read_only(tmp_path, monkeypatch):
    # Root may write everywhere, so permissions alone are not enough.
    def refuse(dir):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(disk.tempfile, 'TemporaryFile', refuse)
    with refused('output-failed', tmp_path, 'Permission denied'):
        check_work_dir(str(tmp_path))


def test_free_space(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, 'disk_usage', lambda path: type('', (), dict(free=5_999_000_000)))
    check_free_space(str(tmp_path), 1_900_000_000)
    with refused('output-failed', '5.999 GB', '6.000 GB', '--work-dir', 'max_keep_ckpts'):
        check_free_space(str(tmp_path), 2_000_000_000)


@pytest.mark.parametrize('kind, arguments', [
    (torch.optim.AdamW, {}), (torch.optim.AdamW, dict(amsgrad=True)), (torch.optim.SGD, {}),
    (torch.optim.SGD, dict(momentum=0.9))])
def test_the_size_is_that_of_the_file(kind, arguments):
    model = nn.Sequential(nn.Linear(500, 500), nn.BatchNorm1d(500), nn.Linear(500, 300))
    model[2].requires_grad_(False)
    wrapper = OptimWrapper(kind(model.parameters(), lr=0.1, **arguments))
    estimate = disk.checkpoint_bytes(model, wrapper, averaged=False)
    model(torch.randn(4, 500)).sum().backward()
    wrapper.step()
    file = io.BytesIO()
    torch.save(dict(state_dict=model.state_dict(), optimizer=wrapper.state_dict()), file)
    assert 0.98 < estimate / len(file.getvalue()) <= 1


def test_averages_and_several_optimisers():
    model = nn.Linear(3, 1)
    wrapper = OptimWrapper(torch.optim.Adam(model.parameters()))
    assert disk.checkpoint_bytes(model, wrapper, averaged=False) == 16 + 32
    assert disk.checkpoint_bytes(model, wrapper, averaged=True) == 32 + 32
    both = OptimWrapperDict(one=wrapper, other=wrapper)
    assert disk.checkpoint_bytes(model, both, averaged=False) == 16 + 64
