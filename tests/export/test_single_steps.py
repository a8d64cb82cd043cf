"""Compare a file with PyTorch step by step, since rounding errors may grow too much for other comparisons."""

import numpy as np
import pytest
import torch
from deqdet import export
from deqdet.export.single_steps import Growth, SingleSteps, state_difference
from deqdet.model.state import DecoderState
from exported import detector, expanding, parts, planted

pytestmark = pytest.mark.xdist_group('export')  # one process records

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

IMAGES = [export.random_images([(121, 160)]), export.random_images([(96, 96), (90, 80)], seed=1)]


def steps_of(joined, model, steps, batches=IMAGES):
    return export.compare_steps(export.TracedFile(joined), model, batches, steps=steps)


@pytest.mark.slow
@pytest.mark.parametrize('steps, unroll', [(export.GIVEN, False), (3, False), (0, False), (3, True)])
def test_every_step_is_that_of_pytorch(steps, unroll):
    traced = export.join_parts(parts(), steps=steps, unroll=unroll, traced=True)
    count = 3 if steps == export.GIVEN else steps
    single = steps_of(traced, detector(), count)
    assert single.good and single.ran == count + 1
    assert 0 < single.refinement and 0 < single.features
    # The traced file gives the detections of the file.
    trace = export.TracedFile(traced).run(IMAGES[1], divisor=32, steps=count)
    joined = export.join_parts(parts(), steps=steps, unroll=unroll)
    session = export.open_file(joined.SerializeToString())
    for one, two in zip(trace.detections, export.run_file(session, IMAGES[1], divisor=32, steps=count)):
        np.testing.assert_allclose(one[1], two[1], atol=1e-5)
    assert [tuple(part.shape) for part in trace.states[-1]] == [(2, 12, 4), (2, 12, 64), (2, 12, 4),
                                                               (2, 12, 10)]


@pytest.mark.slow
def test_a_path_that_expands_rounding():
    """Detections differ from PyTorch's, and PyTorch's change by rounding, but each step is correct."""
    model, recorded = expanding()
    session = export.open_file(export.join_parts(recorded, steps=20).SerializeToString())
    traced = export.TracedFile(export.join_parts(recorded, steps=20, traced=True))
    agreement = export.worst(export.compare_batch(session, model, images, steps=20) for images in IMAGES)
    assert not agreement.good
    assert export.compare_steps(traced, model, IMAGES, steps=20).good
    growth = export.compare_paths(traced, model, IMAGES, steps=20)
    assert growth.explains
    assert growth.own[1] > export.SCORE_LIMIT and growth.file[0] > export.BOX_LIMIT


@pytest.mark.slow
def test_a_path_that_contracts_is_no_excuse():
    joined = export.join_parts(parts(), steps=8, traced=True)
    growth = export.compare_paths(export.TracedFile(joined), detector(), IMAGES, steps=8)
    assert not growth.explains
    assert growth.file[0] < export.BOX_LIMIT and growth.own[0] < export.BOX_LIMIT


@pytest.mark.slow
@pytest.mark.parametrize('part, weight, where', [
    ('refinement', 'layer.fc_reg.bias', 'refinement'),
    ('refinement', 'layer.fc_cls.bias', 'refinement'),
    ('refinement', 'layer.ffn.layers.1.bias', 'refinement'),
    ('front', 'proposal_content', 'start'),
    ('front', 'model.roi_head.bbox_head.0.fc_reg.bias', 'start'),
    ('front', 'normalisation.mean', 'features'),
])
@pytest.mark.parametrize('make', [lambda: (detector(), parts()), expanding], ids=['lively', 'expanding'])
def test_an_error_of_the_graph_is_found(make, part, weight, where):
    """One element of a weight is 2% off. The error is found whether rounding errors grow or not."""
    model, recorded = make()
    joined = export.join_parts(planted(recorded, part, weight), steps=4, traced=True)
    single = steps_of(joined, model, 4, IMAGES[:1])
    assert not single.good
    limit = export.FEATURE_LIMIT if where == 'features' else export.STEP_LIMIT
    assert getattr(single, where) > limit
    # Later parts are checked on the file's own values, and are correct.
    order = ['features', 'start', 'refinement']
    assert all(getattr(single, other) <= export.FEATURE_LIMIT for other in order if other != where)


@pytest.mark.slow
def test_a_step_too_many():
    single = steps_of(export.join_parts(parts(), steps=5, traced=True), detector(), 4, IMAGES[:1])
    assert not single.good and str(single) == 'it runs 6 refinements, not 5'


def test_limits():
    right = SingleSteps(features=5e-5, start=1e-6, refinement=1e-6, selection=0.0, masks=1e-5, ran=3, asked=3)
    assert right.good
    for wrong in (dict(features=2e-4), dict(start=4e-5), dict(refinement=float('nan')), dict(selection=1.0),
                  dict(masks=0.01), dict(masks=float('nan')), dict(ran=2)):
        assert not right._replace(**wrong).good


def test_what_grown_rounding_explains():
    grown = Growth(file=(5, 0.02), own=(1, 0.01), first=(1e-4, 1e-6))
    assert grown.explains
    # PyTorch's own differences are still below the limits, but grow.
    assert grown._replace(file=(0.14, 2e-4), own=(0.05, 1e-4)).explains
    nan = float('nan')
    for wrong in (dict(first=(0.05, 1e-3)), dict(file=(11, 0.02)), dict(file=(5, 0.2)),
                  dict(file=(nan, 0.02)), dict(own=(nan, 0.01))):
        assert not grown._replace(**wrong).explains
    # A first difference of zero gives no growth factor.
    assert not Growth((2e-4, 1e-6), (2e-4, 1e-6), (0.0, 0.0)).explains


def test_differences_of_states():
    box = torch.tensor([[[0.0, 0.0, 100.0, 50.0], [0.0, 0.0, 0.5, 0.5]]])
    state = DecoderState(position=torch.ones(1, 2, 4), content=torch.ones(1, 2, 16), box=box,
                         logits=torch.zeros(1, 2, 3))
    assert state_difference(state, state) == 0
    moved = box + torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 0.005]]])
    # Unit: hundreds of pixels; pixels for boxes smaller than one.
    assert state_difference(state._replace(box=moved), state) == pytest.approx(0.01)
    assert state_difference(state._replace(content=state.content * 1.02), state) == pytest.approx(0.02)
    logits = torch.tensor([[[0.0, 0.0, 0.04], [0.0, 0.0, 0.0]]])
    assert state_difference(state._replace(logits=logits), state) == pytest.approx(0.01, rel=1e-3)
    assert state_difference(state._replace(logits=logits), state._replace(logits=None)) == 0
    assert np.isnan(state_difference(state._replace(box=box * np.nan), state))
