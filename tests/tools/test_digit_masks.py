"""Masks in COCO's forms, compared with pycocotools."""

import numpy as np
import pytest
from deqdet.commands.dataset.make_digits import extent, polygons_of, rle_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks
from scipy import ndimage


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits).reshape(height, width)
    mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    return mask


@settings(deadline=None)
@given(masks())
def test_rle_of_any_mask(mask):
    code = rle_of(mask)
    assert type(code['counts']) is str and code['size'] == list(mask.shape)
    np.testing.assert_array_equal(coco_masks.decode(code).astype(bool), mask)
    assert coco_masks.toBbox(code).tolist() == list(extent(mask))


@settings(deadline=None)
@given(masks())
def test_polygons_of_any_mask_fill_only_its_holes(mask):
    polygons = polygons_of(mask)
    assert all(len(polygon) >= 8 and len(polygon) % 2 == 0 for polygon in polygons)
    drawn = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(polygons, *mask.shape))).astype(bool)
    # A part that touches another at a corner belongs to it, so a ring may be closed at corners.
    np.testing.assert_array_equal(drawn, ndimage.binary_fill_holes(mask, np.array(
        [[0, 1, 0], [1, 1, 1], [0, 1, 0]])))


def test_a_ring_is_one_polygon():
    mask = np.ones((5, 6), dtype=bool)
    mask[2, 2:4] = False
    polygon, = polygons_of(mask)
    assert sorted(zip(polygon[::2], polygon[1::2])) == [(0, 0), (0, 5), (6, 0), (6, 5)]


@pytest.mark.parametrize('mask', [np.eye(3, dtype=bool), np.eye(3, dtype=bool)[::-1]])
def test_parts_that_touch_at_corners(mask):
    rles = coco_masks.frPyObjects(polygons_of(mask), 3, 3)
    np.testing.assert_array_equal(coco_masks.decode(coco_masks.merge(rles)), mask)
