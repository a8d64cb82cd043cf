"""Extents, sums and faults of masks, compared with the pixels that pycocotools decodes."""

import numpy as np
import pytest
from data.test_fuzzed_annotations import odd
from deqdet.data.mask_fields import NONE, POLYGONS, RLE, UNREADABLE, read_masks, sums_of_counts
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import LoadAnnotations
from pycocotools import mask as coco_masks


def encoded(mask):
    code = coco_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=code['size'], counts=code['counts'].decode())


def uncompressed(mask):
    pixels = np.asarray(mask).ravel(order='F')
    changes = np.flatnonzero(np.diff(pixels, prepend=0))
    return dict(size=list(mask.shape), counts=np.diff([0, *changes, len(pixels)]).tolist())


def masks_of(*values):
    return read_masks([dict(segmentation=value) for value in values])


@st.composite
def bitmaps(draw):
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    seed, share = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0, 0.02, 0.5, 0.98, 1]))
    rough = np.random.default_rng(seed).random(shape) < share
    return np.kron(rough, np.ones((draw(st.sampled_from([1, 30])), ) * 2)).astype(int)


@settings(deadline=None)
@given(st.lists(bitmaps(), min_size=1, max_size=6))
def test_any_rle_is_read_without_decoding_it(bitmaps):
    table = masks_of(*map(encoded, bitmaps), *map(uncompressed, bitmaps))
    assert not table.faults and (table.forms == RLE).all() and not table.short.any()
    for row, mask in enumerate([*bitmaps, *bitmaps]):
        assert table.sizes[row].tolist() == [*mask.shape[::-1]]
        assert table.empty[row] == (not mask.any())
        ys, xs = np.nonzero(mask)
        expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [np.nan] * 4
        np.testing.assert_array_equal(table.extents[row], expected)
    totals, inside, readable = sums_of_counts([encoded(mask)['counts'] for mask in bitmaps])
    assert readable.all()
    assert totals.tolist() == [mask.size for mask in bitmaps]
    assert inside.tolist() == [mask.sum() for mask in bitmaps]


@settings(deadline=None)
@given(bitmaps(), st.data())
def test_a_damaged_text_is_noticed_or_is_another_whole_mask(mask, data):
    code = encoded(mask)
    text = code['counts']
    place = data.draw(st.integers(0, len(text) - 1))
    code['counts'] = data.draw(st.sampled_from([text[:place], text[:place] + text[place + 1:], text + 'a',
                                                text[:place] + chr(data.draw(st.integers(32, 126)))]))
    table = masks_of(code)
    if not table.faults:
        # Then it has as many pixels as the image, and pycocotools decodes it to the same extent.
        pixels = coco_masks.decode(code)
        assert pixels.shape == mask.shape and table.empty[0] == (not pixels.any())


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-5, 60), min_size=3, max_size=9), min_size=1, max_size=3),
       st.integers(0, 9))
def test_any_polygon(parts, odd_number):
    polygons = [[value for x in part for value in (x, (7 * x + len(part)) % 50)] for part in parts]
    short = odd_number == 3
    table = masks_of(polygons + [[1, 2, 3]] * short)
    points = np.concatenate([np.reshape(part, (-1, 2)) for part in polygons])
    np.testing.assert_array_equal(table.extents[0], [*points.min(axis=0), *points.max(axis=0)])
    assert table.short[0] == short and not table.faults
    if table.empty[0]:
        moved = [(np.reshape(part, (-1, 2)) - points.min(axis=0)).ravel().tolist() for part in polygons]
        assert coco_masks.area(coco_masks.merge(coco_masks.frPyObjects(moved, 70, 70))) == 0


@pytest.mark.parametrize('value, form', [
    ([['1', 2, '3.5', 4, 5, 6]], POLYGONS), ([[1, 2, 3, 1e7, 5, 6]], UNREADABLE), (None, NONE), ([], NONE),
    ({}, NONE), ('', NONE), ([[0, 0, 4, 0, 4, 4]], POLYGONS), ([[]], POLYGONS),
    ([[1, 2, 3]], POLYGONS), ([1, 2, 3, 4, 5, 6], UNREADABLE), ([[1, 2, 'x', 4, 5, 6]], UNREADABLE),
    ([[1, 2, None, 4, 5, 6]], UNREADABLE), ([[[1, 2], [3, 4], [5, 6]]], UNREADABLE), ('text', UNREADABLE),
    ([[1, 2, float('nan'), 4, 5, 6]], UNREADABLE), ([[1, 2, 10**400, 4, 5, 6]], UNREADABLE), (7, UNREADABLE),
    (dict(counts='12'), UNREADABLE)])
def test_forms(value, form):
    good = [[0, 0, 4, 0, 4, 4]]
    table = masks_of(good, value, good)
    assert table.forms.tolist() == [POLYGONS, form, POLYGONS]
    assert list(table.faults) == [1] * (form == UNREADABLE)
    np.testing.assert_array_equal(table.extents[[0, 2]], [[0, 0, 4, 4]] * 2)


def test_without_the_key():
    assert read_masks([{}]).forms.tolist() == [NONE] and len(read_masks([]).forms) == 0


@pytest.mark.parametrize('code, why', [
    (dict(size=[2, 3], counts=[2, 1]), '3 instead of 2 * 3'), (dict(size=[2, 3], counts=[7, -1]), 'neither'),
    (dict(size=[2, 3], counts=[2.5, 3.5]), 'neither'), (dict(size=[2, 3], counts=None), 'neither'),
    (dict(size=[2], counts=[2]), 'size'), (dict(size='23', counts=[6]), 'size'),
    (dict(size=[0, 3], counts=[]), 'size'), (dict(size=[True, 6], counts=[6]), 'size'),
    (dict(size=[2, 10**9], counts=[2 * 10**9]), 'size'), (dict(size=[2, 3], counts=''), 'compressed'),
    (dict(size=[2, 3], counts='ü'), 'compressed'), (dict(size=[2, 3], counts='oooooooo1'), 'compressed'),
    (dict(size=[2, 3], counts='P'), 'compressed'), (dict(size=[2, 3], counts='3'), '3 instead of 2 * 3')])
def test_faults_of_rle(code, why):
    good = encoded(np.eye(3))
    table = masks_of(good, code, good)
    assert list(table.faults) == [1] and why in table.faults[1]
    np.testing.assert_array_equal(table.extents, [[0, 0, 3, 3], [np.nan] * 4, [0, 0, 3, 3]])


def test_a_polygon_that_crosses_itself_is_not_empty():
    crossing, line, point = [[0, 0, 20, 20, 20, 0, 0, 20]], [[5, 5, 9, 9, 13, 13]], [[5, 5, 5, 5, 5, 5]]
    assert masks_of(crossing, line, point).empty.tolist() == [False, True, True]


odd_counts = st.one_of(odd, st.sampled_from([[40, 8], [0, 48], [48], '`1', 'P1']),
                       st.lists(st.integers(0, 48), max_size=3))
odd_masks = st.one_of(
    odd, st.fixed_dictionaries(dict(size=st.one_of(odd, st.just([6, 8])), counts=odd_counts)),
    st.lists(st.lists(st.one_of(odd, st.integers(-9, 20)), max_size=9), max_size=3),
    st.lists(odd, max_size=3))


@settings(deadline=None, max_examples=300)
@given(st.lists(odd_masks, max_size=5))
def test_any_value_is_read_and_mmdet_loads_what_is_good(values):
    table = masks_of(*values)
    assert len(table.forms) == len(values)
    assert set(np.flatnonzero(table.forms == UNREADABLE)) <= set(table.faults)
    load = LoadAnnotations(with_bbox=False, with_label=False, with_mask=True)
    for row, value in enumerate(values):
        if row not in table.faults and (table.forms[row] == POLYGONS or table.sizes[row].tolist() == [8, 6]):
            results = load(dict(ori_shape=(6, 8), instances=[dict(mask=value, ignore_flag=0)]))
            pixels, = results['gt_masks'].masks
            assert pixels.shape == (6, 8)
            if table.forms[row] == RLE:
                assert table.empty[row] == (not pixels.any())
            elif pixels.any() and not results['gt_ignore_flags'].any():
                # Rasterisation rounds to half a pixel.
                ys, xs = np.nonzero(pixels)
                left, top, right, bottom = table.extents[row]
                assert left - 1 <= xs.min() and xs.max() + 1 <= right + 1
                assert top - 1 <= ys.min() and ys.max() + 1 <= bottom + 1


@pytest.mark.parametrize('polygons', [
    [[0, 0, 4, 0, 4, 4]], [[]], [[1, 2]], [[1, 2, 3, 4]], [[1, 2], [3, 4], [5, 6]], [[1, 2, 3, 4, 5]],
    [[0, 0, 4, 0, 4, 4], [1, 2]], [[1, 2, 3, 4], [0, 0, 4, 0, 4, 4]]])
def test_what_the_evaluation_fails_on_and_training_ignores(polygons):
    table = masks_of(polygons)
    results = LoadAnnotations(with_bbox=False, with_label=False, with_mask=True)(
        dict(ori_shape=(6, 8), instances=[dict(mask=polygons, ignore_flag=0)]))
    assert table.ignored[0] == results['gt_ignore_flags'][0]
    if table.unevaluated[0]:
        with pytest.raises(Exception, match="'bb' has incorrect type|input type is not supported"):
            coco_masks.frPyObjects(polygons, 6, 8)
    else:
        coco_masks.frPyObjects(polygons, 6, 8)


@pytest.mark.parametrize('value, why', [
    ([[0, 1, 1, 0, 0, 0]] * 3, 'bitmap'), ([[0], [1]], 'bitmap'), ([[0, 0, 1, 0, 1, 1]], None),
    ([[0, 0, 1, 0, 1, 1], [2, 0, 9, 0, 5, 4]], None), ([[], []], None),
    ([dict(x=1, y=2)] * 3, 'other things'), ([1, 2, 3, 4, 5, 6], 'list of numbers')])
def test_lists_that_are_no_polygons(value, why):
    faults = masks_of(value).faults
    assert why in faults[0] if why else not faults
