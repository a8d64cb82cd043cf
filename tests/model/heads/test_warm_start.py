"""Start from a known equilibrium."""

from dataclasses import replace

import pytest
import torch
from deqdet.model.heads.warm_start import Equilibrium, view_of
from deqdet.model.position import PositionCodec
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from refusals import refused
from small_model import batch_of, build, contracting

TOLERANCE = dict(refinement_steps=60, tolerance=dict(content=1e-3, position=0.05))


def predictions(model, start=None, objects=((2, 7), (4, ))):
    batch = batch_of(model, objects)
    with torch.no_grad():
        return model.predict(batch['inputs'], batch['data_samples'], start=start)


def test_the_same_images_are_solved_already():
    model = contracting(TOLERANCE)
    cold = predictions(model, [None, None])
    warm = predictions(model, [sample.equilibrium for sample in cold])
    for before, after in zip(cold, warm):
        assert before.equilibrium.refinements > 3 and after.equilibrium.refinements == 2
        torch.testing.assert_close(
            after.pred_instances.scores, before.pred_instances.scores, atol=1e-3, rtol=1e-3)


def test_some_images_of_a_batch_may_start_as_usual():
    model = contracting(TOLERANCE)
    cold = predictions(model, [None, None])
    mixed = predictions(model, [None, cold[1].equilibrium])
    assert mixed[0].equilibrium.refinements == cold[0].equilibrium.refinements
    assert mixed[1].equilibrium.refinements == 2


def test_without_start_nothing_is_kept():
    model = contracting(TOLERANCE)
    assert all('equilibrium' not in sample for sample in predictions(model))
    plain, asked = predictions(model), predictions(model, [None, None])
    for one, other in zip(plain, asked):
        assert torch.equal(one.pred_instances.scores, other.pred_instances.scores)


@pytest.mark.parametrize('start, words', [
    (lambda found: [found[0]], ['start', '1', '2']),
    (lambda found: [replace(found[0], position=found[0].position[:5], content=found[0].content[:5]),
                    found[1]], ['start', '(5, 64)', '(12, 64)']),
])
def test_a_start_that_does_not_fit_is_refused(start, words):
    model = contracting(TOLERANCE)
    found = [sample.equilibrium for sample in predictions(model, [None, None])]
    with refused('bad-argument', *words):
        predictions(model, start(found))


def test_a_stacked_decoder_has_no_equilibrium():
    from mmengine.config import Config
    from small_model import ROOT
    model = build(Config.fromfile(str(ROOT / 'configs/deqdet/ffndet_digits.py')).model).eval()
    with refused('unsupported-decoder', 'FFNDetRoIHead'):
        predictions(model, [None, None])


def sample_of(height, width, flip=None):
    return DetDataSample(metainfo=dict(
        img_shape=(height, width), flip=flip is not None, flip_direction=flip))


sizes = st.integers(16, 2000)
flips = st.sampled_from([None, 'horizontal', 'vertical', 'diagonal'])


@settings(deadline=None)
@given(sizes, sizes, flips, sizes, sizes, flips, st.lists(st.floats(0.05, 0.95), min_size=4, max_size=4))
def test_boxes_follow_the_view(h1, w1, flip1, h2, w2, flip2, place):
    """A box keeps its relative position in the image when the image is resized or flipped."""
    first, second = sample_of(h1, w1, flip1), sample_of(h2, w2, flip2)
    (x1, x2), (y1, y2) = (sorted((place[i], place[i + 2] + 0.01)) for i in (0, 1))
    shares = torch.tensor([[x1, y1, x2, y2]], dtype=torch.float64)

    def box_in(sample):
        (height, width), (left_right, top_bottom) = view_of(sample)
        box = shares.clone()
        if left_right:
            box[:, [0, 2]] = 1 - box[:, [2, 0]]
        if top_bottom:
            box[:, [1, 3]] = 1 - box[:, [3, 1]]
        return box * torch.tensor([width, height] * 2)

    found = Equilibrium(PositionCodec.encode(box_in(first)), torch.zeros(1, 8), *view_of(first), 1)
    position, _ = found.seen_as(second)
    torch.testing.assert_close(PositionCodec.decode(position), box_in(second), atol=1e-3, rtol=1e-4)
