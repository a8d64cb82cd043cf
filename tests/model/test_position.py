"""Position codec."""

import math

import torch
from deqdet.model.position import PositionCodec
from hypothesis import given
from hypothesis import strategies as st

pixels = st.floats(-2000, 4000, width=32)
sizes = st.floats(0.5, 3000, width=32)


def test_by_hand():
    # 16 wide, 64 high, centre (100, 50): geometric mean 32 = 2^5, height / width = 4 = 2^2.
    box = torch.tensor([92.0, 18.0, 108.0, 82.0])
    position = PositionCodec.encode(box)
    torch.testing.assert_close(position, torch.tensor([100.0, 50.0, 5.0, 2.0]))
    torch.testing.assert_close(PositionCodec.decode(position), box)


def test_delta_moves_the_centre_in_units_of_the_incoming_scale():
    position = torch.tensor([100.0, 50.0, 5.0, 2.0])
    moved = PositionCodec.move(position, torch.tensor([0.5, -0.25, 1.0, -3.0]))
    torch.testing.assert_close(moved, torch.tensor([116.0, 42.0, 6.0, -1.0]))


@given(pixels, pixels, sizes, sizes)
def test_round_trip(x, y, w, h):
    box = torch.tensor([x, y, x + w, y + h], dtype=torch.float64)
    torch.testing.assert_close(PositionCodec.decode(PositionCodec.encode(box)), box, rtol=1e-5, atol=1e-3)


@given(pixels, pixels, sizes, sizes)
def test_swapped_corners_encode_the_same_box(x, y, w, h):
    box = torch.tensor([x, y, x + w, y + h])
    torch.testing.assert_close(PositionCodec.encode(box[[2, 3, 0, 1]]), PositionCodec.encode(box))
    torch.testing.assert_close(PositionCodec.encode(box[[2, 1, 0, 3]]), PositionCodec.encode(box))


@given(pixels, pixels, sizes, sizes)
def test_scale_and_ratio_mean_what_they_say(x, y, w, h):
    _, _, z, r = PositionCodec.encode(torch.tensor([x, y, x + w, y + h], dtype=torch.float64)).tolist()
    assert math.isclose(2 ** z, math.sqrt(w * h), rel_tol=1e-5)
    assert math.isclose(2 ** r, h / w, rel_tol=1e-5)


def test_a_box_without_size_stays_finite():
    position = PositionCodec.encode(torch.tensor([5.0, 5.0, 5.0, 5.0]))
    assert torch.isfinite(position).all()
    assert torch.isfinite(PositionCodec.decode(position)).all()
