"""A solve without tolerance never waits for its device. The waits are counted on a CPU."""

import numpy as np
import pytest
import torch
from deqdet.device_check import waits_of
from deqdet.device_check.detectors import contracting
from deqdet.device_check.synchronisations import host_synchronisations
from deqdet.device_check.waiting import prediction_of, training_path_of
from deqdet.model.decoder_layer import intersection_over_first
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmdet.structures.bbox import bbox_overlaps
from mmengine.registry import DefaultScope
from small_model import build

VALUES = torch.arange(6.0)


@pytest.mark.parametrize('name, run', [
    ('_local_scalar_dense', lambda x: x[1].item()),
    ('_local_scalar_dense', lambda x: float(x[1])),
    ('_local_scalar_dense', lambda x: 1 if x[1] > 0 else 2),
    ('_local_scalar_dense', lambda x: f'{x[1]}'),
    ('tolist', lambda x: x.tolist()),
    ('numpy', lambda x: x.numpy()),
    ('numpy', lambda x: np.asarray(x)),
    ('cpu', lambda x: x.cpu()),
    ('nonzero', lambda x: x.nonzero()),
    ('nonzero', lambda x: torch.where(x > 1)),
    ('index by a mask', lambda x: x[x > 2]),
    ('index_put_ by a mask', lambda x: x.clone().__setitem__(x > 2, 1 + x[4:])),
    ('index by a list', lambda x: x[[0, 1]]),
    ('masked_select', lambda x: x.masked_select(x > 2)),
    ('equal', lambda x: torch.equal(x, x)),
    ('_unique2', lambda x: x.unique()),
    ('repeat_interleave', lambda x: x.repeat_interleave(torch.arange(6))),
    ('new_tensor', lambda x: x.new_tensor([1.0])),
    ('tensor', lambda x: torch.tensor([1.0])),
    ('as_tensor', lambda x: torch.as_tensor([1.0])),
])
def test_what_waits_is_counted_with_its_line(name, run):
    with host_synchronisations('cpu') as waits:
        try:
            run(VALUES)
        except RuntimeError:
            assert name == 'index_put_ by a mask'  # the shapes differ, but the wait is counted
    places = {place for place in waits if place.startswith(f'{name} (')}
    assert places and all('device_check/test_synchronisations.py:' in place for place in places)


@pytest.mark.parametrize('run', [
    lambda x: torch.where(x > 1, x, 0 * x).clamp(min=1e-6),
    lambda x: x[torch.arange(2)] + x[1:3] + x.new_zeros(2) + torch.full((2, ), 3.0),
    lambda x: torch.as_tensor(x).to(torch.float64).repeat_interleave(2),
    lambda x: x.index_copy(0, torch.arange(2), x[:2]),
    lambda x: [len(x), x.shape[0], x.dtype, x.device.type],
])
def test_what_does_not_wait_is_not_counted(run):
    with host_synchronisations('cpu') as waits:
        run(VALUES)
    assert not waits


def test_tensors_of_another_device_are_not_counted():
    """The coins are on the CPU; reading them there does not wait for a GPU."""
    with host_synchronisations('cuda') as waits:
        assert torch.zeros(1) < 1 and VALUES.tolist() and torch.tensor([1.0]).numpy() is not None
    assert not waits


@pytest.fixture(scope='module')
def model():
    """The demo's detector, made small."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return contracting(build())


@pytest.mark.parametrize('changes', [
    dict(sampling='grid'), dict(sampling='rows'), dict(solver=dict(type='anderson', memory=3))], ids=str)
def test_no_prediction_waits(model, changes):
    assert not waits_of(prediction_of(model, changes), 'cpu')


def test_no_training_path_waits(model):
    assert not waits_of(training_path_of(model), 'cpu')


def test_a_tolerance_waits(model):
    """This shows that the counter works: to stop, the program must read whether an image is solved."""
    places = waits_of(prediction_of(model, dict(tolerance=dict(content=0.1))), 'cpu')
    assert any('equilibrium/solver.py' in place for place in places)


@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (2, 5, 4), elements=st.floats(-1e4, 1e4, width=32)))
def test_overlaps_are_those_of_mmdet(boxes):
    """Equal to the bit, even with corners in the wrong order."""
    box = torch.from_numpy(boxes)
    assert torch.equal(intersection_over_first(box), bbox_overlaps(box, box, mode='iof', eps=1e-6))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='CUDA counts only where a GPU is')
def test_cuda_itself_reports_no_wait(model):
    on_gpu = model.cuda()
    try:
        assert not waits_of(prediction_of(on_gpu, dict(sampling='grid')), 'cuda')
    finally:
        model.cpu()
