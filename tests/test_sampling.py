"""3-D sampling."""

import math

import torch
from deqdet.sampling import level_weights, place_points, sample_features
from hypothesis import given, settings
from hypothesis import strategies as st


def sample_by_hand(features, points, strides):
    """The definition, one point at a time."""
    batch, queries, groups, num_points, _ = points.shape
    width = features[0].shape[1] // groups
    out = torch.zeros(batch, queries, groups, num_points, width, dtype=points.dtype)
    for b, q, g, p in torch.cartesian_prod(*map(torch.arange, (batch, queries, groups, num_points))):
        x, y, z = points[b, q, g, p].tolist()
        logits = [-(z - math.log2(s)) ** 2 / 2 for s in strides]
        total = sum(map(math.exp, logits))
        for feature, stride, logit in zip(features, strides, logits):
            level = feature[b, g * width:(g + 1) * width]
            u, v = x / stride - 0.5, y / stride - 0.5  # pixel centres at half-integers
            for j in (math.floor(v), math.floor(v) + 1):
                for i in (math.floor(u), math.floor(u) + 1):
                    if 0 <= j < level.shape[1] and 0 <= i < level.shape[2]:
                        weight = (1 - abs(u - i)) * (1 - abs(v - j)) * math.exp(logit) / total
                        out[b, q, g, p] += weight * level[:, j, i]
    return out


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2 ** 16), st.integers(1, 2), st.integers(1, 3), st.sampled_from([1, 2, 4]))
def test_equals_the_definition(seed, batch, queries, groups):
    generator = torch.Generator().manual_seed(seed)
    strides = (4, 8)
    features = [torch.randn(batch, 8, 6, 7, dtype=torch.float64, generator=generator),
                torch.randn(batch, 8, 3, 4, dtype=torch.float64, generator=generator)]
    points = torch.rand(batch, queries, groups, 3, 3, dtype=torch.float64, generator=generator)
    points = points * torch.tensor([60.0, 50.0, 6.0]) - torch.tensor([15.0, 12.0, 1.0])  # also outside
    torch.testing.assert_close(
        sample_features(features, points, strides), sample_by_hand(features, points, strides))


def test_centre_of_a_cell_gives_the_cell():
    feature = torch.arange(12.0).reshape(1, 1, 3, 4)
    points = torch.tensor([[4 * 2.5, 4 * 1.5, 2.0]]).reshape(1, 1, 1, 1, 3)  # column 2, row 1
    assert sample_features([feature], points, (4, )).item() == 6


def test_far_outside_is_zero():
    points = torch.tensor([[1e4, -1e4, 2.0]]).reshape(1, 1, 1, 1, 3)
    assert sample_features([torch.ones(1, 1, 3, 4)], points, (4, )).item() == 0


def test_level_weights_prefer_the_level_of_the_point():
    weights = level_weights(torch.tensor([2.0, 5.0]), (4, 8, 16, 32))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2))
    assert weights.argmax(-1).tolist() == [0, 3]
    torch.testing.assert_close(weights[0, 1] / weights[0, 0], torch.tensor(math.exp(-0.5)))


def test_points_are_offsets_in_units_of_the_box():
    position = torch.tensor([100.0, 50.0, 5.0, 2.0]).reshape(1, 1, 4)  # 16 wide, 64 high
    offsets = torch.tensor([0.5, -0.5, -1.0]).reshape(1, 1, 1, 1, 3)
    torch.testing.assert_close(
        place_points(position, offsets).flatten(), torch.tensor([108.0, 18.0, 4.0]))
