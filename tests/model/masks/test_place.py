"""Maps that a box gives alone: values by hand, symmetry, and what can be learned from the box alone."""

import math

import pytest
import torch
from deqdet.model.masks.place import PlaceFilter
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from small_model import build
from test_mask_heads import predicted, with_masks
from torch.nn import functional as F

BOXES = st.tuples(*[st.floats(-20, 300)] * 2, *[st.floats(0.5, 200)] * 2)


def placed(box):
    x, y, w, h = box
    return torch.tensor([[x, y, x + w, y + h]], dtype=torch.double)


def by_hand(filters, box, rows, columns, stride):
    """One cell after the other: sines of x and y, weighted by Linear(sines and size of the box)."""
    def sines(value):
        angles = [value * rate for rate in filters.rates]
        return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    x1, y1, x2, y2 = box[0].tolist()
    extents = [math.log(max(1, extent)) / 4 for extent in (x2 - x1, y2 - y1)]
    code = [*sines((x1 + x2) / 2), *sines((y1 + y2) / 2), *extents]
    weights = filters.embed(torch.tensor(code, dtype=torch.double))
    return torch.stack([torch.stack([
        weights @ torch.tensor([*sines((x + 0.5) * stride), *sines((y + 0.5) * stride)],
                               dtype=torch.double) for x in range(columns)]) for y in range(rows)])


@settings(deadline=None, max_examples=20)
@given(BOXES, st.sampled_from([4, 8, 32]))
def test_logits_by_hand(box, stride):
    torch.manual_seed(0)
    filters = PlaceFilter(16).double()
    found, = filters(placed(box), (3, 2), stride)
    torch.testing.assert_close(found, by_hand(filters, placed(box), 3, 2, stride))


def test_a_batch_is_its_images():
    torch.manual_seed(0)
    filters, box = PlaceFilter(16).double(), torch.rand(2, 5, 4).double() * 90
    assert torch.allclose(filters(box, (6, 7), 4), torch.stack([filters(each, (6, 7), 4) for each in box]))


def test_boxes_are_learned_from_boxes():
    """The map alone can show a box of any place: cells inside are above 0, cells outside below."""
    torch.manual_seed(0)
    filters = PlaceFilter(64)
    optimiser = torch.optim.Adam(filters.parameters(), lr=0.01)
    centres = (torch.arange(24) + 0.5) * 4

    def batch(number):
        low = torch.rand(number, 2) * 60
        box = torch.cat([low, low + 20 + torch.rand(number, 2) * 16], dim=1)
        inside = [(centres > box[:, axis, None]) & (centres < box[:, axis + 2, None]) for axis in (0, 1)]
        return box, (inside[1][:, :, None] & inside[0][:, None]).float()
    for _ in range(400):
        box, truth = batch(64)
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(filters(box, (24, 24), 4) - 3, truth).backward()
        optimiser.step()
    box, truth = batch(200)
    found = (filters(box, (24, 24), 4) > 3).float()
    assert (found * truth).sum() / (found + truth).clamp(max=1).sum() > 0.6


def test_the_head_knows_its_strides_and_starts_as_without():
    config = with_masks('levels')
    model = build(config)
    assert [head.strides for head in model.roi_head.mask_head] == [(4, 8, 16, 32)] * 2
    names = {name for name in model.state_dict() if '.place.' in name}
    config.roi_head.mask_head.position = False
    assert {*build(config).state_dict()} == {*model.state_dict()} - names
    assert len(names) == 2 * 4 * 2


def test_masks_depend_on_the_box():
    torch.manual_seed(0)
    model = build(with_masks('levels')).eval()
    head = model.roi_head.mask_head[-1]
    features = [torch.zeros(64, 24 // 2 ** n, 24 // 2 ** n) for n in range(4)]
    maps = head(features, torch.zeros(2, 64), torch.tensor([[0., 0, 20, 20], [60, 60, 90, 90]]))
    assert not torch.allclose(maps[0], maps[1])
    assert all(len(each.pred_instances) for each in predicted(model))


@pytest.mark.parametrize('value', [2, 'yes'])
def test_other_values_are_refused(value):
    config = with_masks('levels')
    config.roi_head.mask_head.position = value
    with refused('bad-setting', f'position={value!r}', 'True or False'):
        build(config)


def test_padding_changes_no_cell():
    """In a batch, a smaller image is padded at its right and lower side: its cells keep their values."""
    filters, box = PlaceFilter(16), placed((5, 6, 40, 44)).float()
    alone, padded = filters(box, (24, 18), 4), filters(box, (32, 40), 4)
    torch.testing.assert_close(padded[..., :24, :18], alone)
