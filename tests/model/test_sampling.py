"""3-D sampling."""

import math
import os

import pytest
import torch
from deqdet.model.sampling import (
    BACK_ENDS,
    GridPyramid,
    RowPyramid,
    level_weights,
    make_pyramid,
    place_points,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from small_model import build

# Triton reads the variable when it is imported, so test_triton.py starts a process with it.
interpreted = pytest.mark.skipif(os.environ.get('TRITON_INTERPRET') != '1',
                                 reason='triton is interpreted in a process that test_triton.py starts')
every_back_end = pytest.mark.parametrize('back_end', [
    pytest.param(name, marks=interpreted if name == 'triton' else ()) for name in BACK_ENDS])


def sample(back_end, features, points, strides):
    return make_pyramid(features, strides, back_end).sample(points)


def random_case(seed, batch=1, states=1, queries=2, groups=2, dtype=torch.float64):
    """Features of two levels, and points in, around and far outside the image, some on its border."""
    generator = torch.Generator().manual_seed(seed)
    features = [torch.randn(batch, 8, 6, 7, dtype=dtype, generator=generator),
                torch.randn(batch, 8, 3, 4, dtype=dtype, generator=generator)]
    points = torch.rand(batch * states, queries, groups, 3, 3, dtype=dtype, generator=generator)
    points = points * torch.tensor([60.0, 50.0, 6.0]) - torch.tensor([15.0, 12.0, 1.0])
    points[0, 0, 0, 0, :2] = torch.tensor([2.0, 22.0])  # centre of the first cell of the last row
    points[0, 0, 0, 1, :2] = torch.tensor([0.0, 24.0])  # corner of the image
    points[0, 0, 0, 2, :2] = torch.tensor([1e6, -1e6])
    return features, points.to(dtype), (4, 8)


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


@every_back_end
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2 ** 16), st.integers(1, 2), st.integers(1, 3), st.sampled_from([1, 2, 4]))
def test_equals_the_definition(back_end, seed, batch, queries, groups):
    case = random_case(seed, batch, queries=queries, groups=groups)
    torch.testing.assert_close(sample(back_end, *case), sample_by_hand(*case))


@every_back_end
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2 ** 16))
def test_back_ends_have_the_same_gradients(back_end, seed):
    features, points, strides = random_case(seed, batch=2)
    points[0, 0, 0, :, :2] += 0.3  # away from cell centres, where the derivative jumps
    weight = torch.randn(2, 2, 2, 3, 4, dtype=torch.float64)

    def gradients(name):
        leaves = [leaf.clone().requires_grad_() for leaf in (*features, points)]
        loss = (sample(name, leaves[:2], leaves[2], strides) * weight).sum()
        return torch.autograd.grad(loss, leaves)

    torch.testing.assert_close(gradients(back_end), gradients('grid'))


@every_back_end
def test_gradients_are_the_derivatives(back_end):
    features, points, strides = random_case(1, batch=2)
    points[0, 0, 0, :, :2] += 0.3  # away from cell centres, where the derivative jumps
    leaves = [leaf.requires_grad_() for leaf in (*features, points)]
    assert torch.autograd.gradcheck(
        lambda *leaves: sample(back_end, leaves[:2], leaves[2], strides), leaves, fast_mode=True)


@every_back_end
def test_several_states_of_an_image_share_its_features(back_end):
    features, points, strides = random_case(0, batch=2, states=3)
    together = sample(back_end, features, points, strides)
    for image in range(2):
        for state in range(3):
            alone = sample(back_end, [level[image:image + 1] for level in features],
                           points[3 * image + state][None], strides)
            torch.testing.assert_close(together[3 * image + state], alone[0])


@every_back_end
def test_centre_of_a_cell_gives_the_cell(back_end):
    feature = torch.arange(12.0).reshape(1, 1, 3, 4)
    points = torch.tensor([[4 * 2.5, 4 * 1.5, 2.0]]).reshape(1, 1, 1, 1, 3)  # column 2, row 1
    assert sample(back_end, [feature], points, (4, )).item() == 6


@every_back_end
def test_far_outside_is_zero(back_end):
    points = torch.tensor([[1e4, -1e4, 2.0]]).reshape(1, 1, 1, 1, 3)
    assert sample(back_end, [torch.ones(1, 1, 3, 4)], points, (4, )).item() == 0


@pytest.mark.parametrize('value', [math.inf, -math.inf, math.nan])
@every_back_end
def test_a_diverged_position_does_not_crash(back_end, value):
    points = torch.full((1, 1, 1, 1, 3), value)
    assert sample(back_end, [torch.ones(1, 1, 3, 4)], points, (4, )).shape == (1, 1, 1, 1, 1)


@every_back_end
def test_half_precision_features_are_sampled_in_float32(back_end):
    features, points, strides = random_case(0, dtype=torch.float32)
    half = [level.bfloat16() for level in features]
    value = sample(back_end, half, points, strides)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, sample(back_end, [x.float() for x in half], points, strides))


@every_back_end
def test_images_are_selected(back_end):
    features, points, strides = random_case(0, batch=3)
    pyramid, images = make_pyramid(features, strides, back_end), torch.tensor([2, 0])
    torch.testing.assert_close(pyramid.select(images).sample(points[images]), pyramid.sample(points)[images])


def test_the_back_end_is_chosen_by_size_or_by_name():
    small, large = [torch.zeros(1, 256, 8, 8)], [torch.zeros(1, 256, 100, 168)]
    assert isinstance(make_pyramid(small, (4, )), GridPyramid)
    # Two workers with half the batch each make the same choice as one with all of it.
    medium = [torch.zeros(1, 256, 56, 56)]
    assert type(make_pyramid([medium[0].expand(4, -1, -1, -1)], (4, ))) is type(make_pyramid(medium, (4, )))
    assert isinstance(make_pyramid(large, (4, )), RowPyramid)
    assert isinstance(make_pyramid(large, (4, ), 'grid'), GridPyramid)
    assert isinstance(make_pyramid(small, (4, ), 'rows'), RowPyramid)


def test_an_unknown_back_end_is_refused():
    with refused('bad-setting', "sampling='fast'", 'auto, grid, rows, triton'):
        build(sampling='fast')


def test_level_weights_prefer_the_level_of_the_point():
    weights = level_weights(torch.tensor([2.0, 5.0]), torch.tensor([2.0, 3.0, 4.0, 5.0]))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2))
    assert weights.argmax(-1).tolist() == [0, 3]
    torch.testing.assert_close(weights[0, 1] / weights[0, 0], torch.tensor(math.exp(-0.5)))


def test_points_are_offsets_in_units_of_the_box():
    position = torch.tensor([100.0, 50.0, 5.0, 2.0]).reshape(1, 1, 4)  # 16 wide, 64 high
    offsets = torch.tensor([0.5, -0.5, -1.0]).reshape(1, 1, 1, 1, 3)
    torch.testing.assert_close(
        place_points(position, offsets).flatten(), torch.tensor([108.0, 18.0, 4.0]))
