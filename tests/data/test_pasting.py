"""Pasting of cut-outs: visible pixels, boxes, colours, and the split of files."""

import cv2
import numpy as np
import pytest
from cutouts import digit_cutouts, oval_cutouts, photographs
from deqdet.data.cutouts import share_backgrounds, split_files
from deqdet.data.pasting import Look, Scene, crop_background, make_stamp, mask_box, reduced
from hypothesis import given, settings
from hypothesis import strategies as st

CUTOUTS = [*digit_cutouts(3, 3), *digit_cutouts(1, 3), *oval_cutouts(3)]
PHOTOGRAPHS = photographs()
PLAIN = Look((8, 300), (1, 8), rotation=0, blur=0, flip=False, overlap=0.5)


@st.composite
def looks(draw):
    least = draw(st.integers(4, 40))
    return Look((least, draw(st.integers(least, 300))), (1, 8), rotation=draw(st.floats(0, 180)),
                blur=draw(st.floats(0, 3)), flip=draw(st.booleans()), overlap=draw(st.floats(0, 0.9)))


@given(look=looks(), seed=st.integers(0, 2**32), width=st.integers(48, 160), height=st.integers(48, 160))
@settings(max_examples=60, deadline=None)
def test_visible_pixels_sizes_and_places(look, seed, width, height):
    """The masks of all objects, followed one by one: what later ones leave of each earlier one."""
    rng = np.random.default_rng(seed)
    scene, whole = Scene(np.zeros((height, width, 3), np.float32), look.overlap), []
    for _ in range(12):
        stamp = make_stamp(rng, CUTOUTS[rng.integers(len(CUTOUTS))], look, width, height)
        if stamp is None or not scene.paste(rng, stamp):
            continue
        mask = scene.mask(len(whole))
        # All of the object is in the picture, and its size is one that was asked for.
        assert mask.sum() == (stamp.alpha >= 0.5).sum() > 0
        assert look.sizes[0] <= max(mask_box(mask)[2:]) <= look.sizes[1]
        whole.append(mask)
    assert scene.whole == [mask.sum() for mask in whole]
    hidden = np.zeros((height, width), dtype=bool)
    for number, mask in reversed(list(enumerate(whole))):
        visible = mask & ~hidden
        assert (scene.mask(number) == visible).all() and scene.visible[number] == visible.sum()
        assert visible.sum() >= (1 - look.overlap) * mask.sum()
        hidden |= mask


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=9))
def test_a_box_is_the_extent_of_its_mask(rows):
    mask = np.array(rows)
    x, y, w, h = mask_box(mask)
    ys, xs = np.nonzero(mask)
    assert (x, y, x + w, y + h) == ((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else (0,) * 4)


@given(look=looks(), seed=st.integers(0, 2**32), below=st.sampled_from([0, 255]))
@settings(max_examples=40, deadline=None)
def test_no_rim_has_the_colour_below_transparent_pixels(look, seed, below):
    """An object of one colour on a background of another gives only colours between the two."""
    rng = np.random.default_rng(seed)
    cutout = CUTOUTS[rng.integers(len(CUTOUTS))].copy()
    cutout[..., :3] = np.where(cutout[..., 3:] > 0, (90, 120, 150), below)
    scene = Scene(np.full((120, 120, 3), (100, 100, 100), np.float32), 0.5)
    stamp = make_stamp(rng, cutout, look, 120, 120)
    if stamp is None or not scene.paste(rng, stamp):
        return
    assert (scene.picture >= np.array([90, 100, 100]) - 0.1).all()
    assert (scene.picture <= np.array([100, 120, 150]) + 0.1).all()


def test_an_unchanged_cutout_is_copied_to_the_pixel():
    cutout = np.dstack([PHOTOGRAPHS[0][50:90, 60:130], np.full((40, 70), 255, np.uint8)])
    cutout[:10, :20, 3] = 0
    rng = np.random.default_rng(0)
    scene = Scene(np.full((100, 100, 3), 7, np.float32), 0.5)
    stamp = make_stamp(rng, cutout, PLAIN._replace(sizes=(70, 70)), 100, 100)
    assert scene.paste(rng, stamp)
    x, y, w, h = mask_box(scene.mask(0))
    assert (w, h) == (70, 40)
    opaque = cutout[..., 3] > 0
    np.testing.assert_allclose(scene.picture[y:y + h, x:x + w][opaque], cutout[opaque][:, :3], atol=0.01)
    assert (scene.picture[~scene.mask(0)] == 7).all()


@pytest.mark.parametrize('below', [0, 255])
def test_a_large_cutout_is_reduced_without_a_rim(below):
    large = cv2.resize(CUTOUTS[-1], (1800, 1200), interpolation=cv2.INTER_LINEAR)
    large[..., :3] = np.where(large[..., 3:] > 0, (90, 120, 150), below)
    found = reduced(large, PLAIN._replace(sizes=(8, 100)))
    h, w = found.shape[:2]
    x, y, whole_w, whole_h = mask_box(large[..., 3] > 0)
    assert w == 200 and abs(h - 200 * whole_h / whole_w) < 1
    seen = found[found[..., 3] > 10]
    assert np.abs(seen[:, :3].astype(int) - (90, 120, 150)).max() <= 2
    whole = large[y:y + whole_h, x:x + whole_w, 3]
    expected = cv2.resize(whole.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
    assert np.abs(found[..., 3] - expected).max() <= 1
    # A small one loses only its empty rim.
    x, y, w, h = mask_box(CUTOUTS[-1][..., 3] > 0)
    assert (w, h) < (90, 60) and (reduced(CUTOUTS[-1], PLAIN) == CUTOUTS[-1][y:y + h, x:x + w]).all()


def test_turn_and_flip_move_the_object():
    """An arrow to the right: mirrored it points to the left, turned by 90 degrees up or down."""
    arrow = np.zeros((60, 60, 4), np.uint8)
    cv2.fillPoly(arrow, [np.array([[5, 10], [55, 30], [5, 50]])], (255, 255, 255, 255))
    seen = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        stamp = make_stamp(rng, arrow, PLAIN._replace(flip=True), 100, 100)
        x, y, w, h = stamp.box
        mask = stamp.alpha[y:y + h, x:x + w] >= 0.5
        seen.add('right' if mask[:, 0].sum() > mask[:, -1].sum() else 'left')
    assert seen == {'left', 'right'}
    stamps = [make_stamp(np.random.default_rng(seed), arrow, PLAIN._replace(rotation=180), 100, 100)
              for seed in range(40)]
    shapes = [stamp.box[2] / stamp.box[3] for stamp in stamps]
    assert min(shapes) < 0.95 and max(shapes) > 1.2


def test_sizes_are_spread_by_their_logarithm():
    """As many from 8 to 16 as from 16 to 32 and from 32 to 64 pixels."""
    cutout, rng = CUTOUTS[-1], np.random.default_rng(0)
    look = PLAIN._replace(sizes=(8, 64))
    sizes = [max(make_stamp(rng, cutout, look, 320, 320).box[2:]) for _ in range(900)]
    counts = np.histogram(np.log2(sizes), bins=[3, 4, 5, 6.01])[0]
    assert sum(counts) == 900 and counts.min() > 230


def test_a_small_file_becomes_at_most_twice_as_large():
    cutout, rng = CUTOUTS[0], np.random.default_rng(0)
    x, y, w, h = mask_box(cutout[..., 3] > 0)
    sizes = [max(make_stamp(rng, cutout, PLAIN._replace(sizes=(60, 300)), 320, 320).box[2:])
             for _ in range(50)]
    assert min(sizes) >= 60 and 70 < max(sizes) <= 2 * max(w, h)


def test_what_would_vanish_is_no_object():
    """A net of lines with a fifth of a pixel's alpha at its least size."""
    net = np.zeros((200, 200, 4), np.uint8)
    net[::10] = 255
    assert make_stamp(np.random.default_rng(0), net, PLAIN._replace(sizes=(8, 12)), 320, 320) is None


@given(seed=st.integers(0, 2**32), width=st.integers(32, 900), height=st.integers(32, 900),
       rows=st.integers(2, 427), columns=st.integers(2, 640))
@settings(max_examples=60, deadline=None)
def test_backgrounds_of_any_size(seed, width, height, rows, columns):
    photograph = PHOTOGRAPHS[0][:rows, :columns]
    background, (x, y, w, h) = crop_background(np.random.default_rng(seed), photograph, width, height)
    assert background.shape == (height, width, 3) and background.dtype == np.float32
    assert 0 <= x and 0 <= y and 0 < w and 0 < h and x + w <= columns and y + h <= rows
    # It is enlarged only if it must be, and keeps its form but for rounding.
    assert (w >= width and h >= height) == (columns >= width and rows >= height)
    assert abs(w * height - h * width) <= max(width, height) + 1


@given(count=st.integers(3, 200), salt=st.integers(0, 50))
def test_each_file_is_in_one_split(count, salt):
    names = [f'{number:03d}' for number in range(count)]
    parts = split_files(names, (0.6, 0.2, 0.2), salt)
    assert sorted(sum(parts, [])) == names and all(parts)
    assert abs(len(parts[0]) - 0.6 * count) <= 2
    assert parts == split_files(names, (0.6, 0.2, 0.2), salt)


@pytest.mark.parametrize('turned', [False, True])
def test_few_backgrounds_are_cut_into_parts(tmp_path, turned):
    picture = PHOTOGRAPHS[0].transpose(1, 0, 2) if turned else PHOTOGRAPHS[0]
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    parts = share_backgrounds(tmp_path, ['a.png'], (0.5, 0.25, 0.25))
    shown = np.zeros(picture.shape[:2], dtype=int)
    for number, (part,) in enumerate(parts):
        assert picture[part.rows, part.columns].shape[int(not turned)] == (320, 160, 160)[number]
        shown[part.rows, part.columns] += 1
    assert (shown == 1).all()
