"""mmengine's checkpoints load without a warning, and nothing else loads unsafely."""

import os
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from deqdet.compat.checkpoint_loading import may_be_unused, safe_checkpoint_loading, unused_tensors
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import _load_checkpoint

needs_allow_list = pytest.mark.skipif(
    not hasattr(torch.serialization, 'safe_globals'), reason='this torch has no allow-list')


@pytest.fixture
def checkpoint(tmp_path):
    """A small version of what a Runner saves."""
    log = HistoryBuffer()
    for value in (1.0, 2.0, 6.0):
        log.update(value)
    path = tmp_path / 'epoch_1.pth'
    info = dict(iter=3, accuracy=np.float64(0.5), count=np.int64(7), good=np.bool_(True),
                palette=np.arange(3, dtype=np.float32))
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), meta=dict(epoch=1),
                    message_hub=dict(log_scalars={'train/loss': log}, runtime_info=info,
                                     resumed_keys={})), path)
    return str(path)


@pytest.fixture
def code(tmp_path):
    """A checkpoint that makes a folder if it is loaded unsafely."""

    class Code:

        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'made'), )

    path = tmp_path / 'code.pth'
    torch.save(dict(state_dict={}, code=Code()), path)
    return str(path)


def test_a_log_comes_back(checkpoint):
    with safe_checkpoint_loading():
        loaded = _load_checkpoint(checkpoint)
    hub = loaded['message_hub']
    log = hub['log_scalars']['train/loss']
    assert log.mean() == 3.0 and log.statistics('max') == 6.0
    assert hub['runtime_info']['accuracy'] == 0.5
    assert hub['runtime_info']['palette'].tolist() == [0, 1, 2]


@needs_allow_list
def test_no_call_falls_back(code, tmp_path):
    with safe_checkpoint_loading():
        with pytest.raises(UnpicklingError):
            _load_checkpoint(code)
        with pytest.raises(UnpicklingError):
            torch.load(code, weights_only=False)
    assert not (tmp_path / 'made').exists()


@needs_allow_list
@pytest.mark.parametrize('owner, name', [
    (HistoryBuffer, '__init__'), (HistoryBuffer, 'other'), (torch.Tensor, 'mean')])
def test_getattr_is_for_the_statistics_of_a_log_only(tmp_path, owner, name):

    class Attribute:

        def __reduce__(self):
            return getattr, (owner, name)

    path = tmp_path / 'getattr.pth'
    torch.save(dict(attribute=Attribute()), path)
    with safe_checkpoint_loading(), pytest.raises(UnpicklingError):
        torch.load(path)


@needs_allow_list
def test_everything_is_as_before_afterwards(checkpoint):
    before = set(torch.serialization.get_safe_globals()), dict(os.environ)
    with safe_checkpoint_loading():
        pass
    with pytest.raises(ZeroDivisionError), safe_checkpoint_loading():
        raise ZeroDivisionError
    assert (set(torch.serialization.get_safe_globals()), dict(os.environ)) == before


@needs_allow_list
def test_who_trusts_every_file_may(code, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with safe_checkpoint_loading(), pytest.warns(UserWarning, match='FORCE_NO_WEIGHTS'):
        torch.load(code)
    assert (tmp_path / 'made').exists()


def test_a_numpy_of_the_other_generation(checkpoint, tmp_path):
    # numpy 1 writes numpy.core, numpy 2 numpy._core: rename one into the other.
    import zipfile
    here, there = (b'numpy._core', b'numpy.core') if np.__version__ >= '2' else \
        (b'numpy.core', b'numpy._core')
    other = tmp_path / 'other.pth'
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(other, 'w') as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(here, there))
    with safe_checkpoint_loading():
        log = torch.load(other)['message_hub']['log_scalars']['train/loss']
    assert log.mean() == 3.0


def test_tensors_that_no_computation_uses():
    """DEQDet's sampling and mixing layer does not use them; a head of Sparse R-CNN does."""
    names = ['0.instance_interactive_conv.norm_in.weight', '0.instance_interactive_conv_norm.bias',
             '1.instance_interactive_conv.norm_in.weight', '1.fc_cls.weight', '0.sampling_n_mixing.norm.bias']
    masks = [f'roi_head.mask_head.{name}' for name in names[:3]]
    names = [f'roi_head.bbox_head.{name}' for name in names]
    assert unused_tensors(names + masks) == set(names[:2])
    # Without a model that has them, mask heads still use theirs.
    assert [may_be_unused(name) for name in names + masks] == [True] * 3 + [False] * 5
