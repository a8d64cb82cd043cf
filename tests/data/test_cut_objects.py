"""Objects that a random crop cuts, in the pipeline of a config that crops."""

from pathlib import Path

import deqdet  # noqa: F401  (registers the step)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
SIDE = 240


def crop_steps(min_visible):
    """The crop of the config of the trees, and the step after it."""
    steps = Config.fromfile(str(ROOT / 'configs/deqdet/deqdet_trees_lite0.py')).train_pipeline
    first = [step['type'] for step in steps].index('RandomCrop')
    crop, removal = steps[first:first + 2]
    assert removal['type'] == 'RemoveCutObjects'
    return Compose([crop, dict(removal, min_visible=min_visible)])


def scene(corners):
    """A picture whose pixels tell their place, with objects in these boxes (x1, y1, x2, y2)."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    masks = np.zeros((len(corners), SIDE, SIDE), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, corners):
        mask[y1:y2, x1:x2] = 1
    return dict(
        img=np.stack([rows, columns, rows * 0], axis=-1).astype(np.uint8), img_shape=(SIDE, SIDE),
        gt_bboxes=HorizontalBoxes(np.array(corners, dtype=np.float32).reshape(-1, 4)),
        gt_bboxes_labels=np.arange(len(corners)), gt_ignore_flags=np.arange(len(corners)) % 2 == 1,
        gt_masks=BitmapMasks(masks, SIDE, SIDE))


BOXES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(1, 40), st.integers(1, 40)),
                 max_size=6).map(lambda boxes: [(x, y, x + w, y + h) for x, y, w, h in boxes])


@settings(deadline=None)
@given(BOXES, st.floats(0.05, 1), st.integers(0, 2 ** 32 - 1))
def test_what_is_left_is_counted_in_pixels(corners, min_visible, seed):
    np.random.seed(seed)
    found = crop_steps(min_visible)(scene(corners))
    (top, left), (height, width) = found['img'][0, 0, :2].astype(int), found['img'].shape[:2]
    assert (height, width) == (160, 160) == found['img_shape']
    kept = found['gt_bboxes_labels'].tolist()
    for number, (x1, y1, x2, y2) in enumerate(corners):
        columns = sum(left <= x < left + width for x in range(x1, x2))
        lines = sum(top <= y < top + height for y in range(y1, y2))
        share = columns * lines / ((x2 - x1) * (y2 - y1))
        if abs(share - min_visible) > 1e-6:  # float32
            assert (number in kept) == (share > min_visible)
    assert found['gt_ignore_flags'].tolist() == [number % 2 == 1 for number in kept]
    # The mask of each object fills its clipped box.
    for mask, (x1, y1, x2, y2) in zip(found['gt_masks'].masks, found['gt_bboxes'].tensor.int().tolist()):
        assert mask.sum() == mask[y1:y2, x1:x2].size > 0
    assert len(found['gt_masks']) == len(found['gt_bboxes']) == len(kept)


@pytest.mark.parametrize('share', [0, -0.1, 1.1, float('nan')])
def test_wrong_shares_are_refused(share):
    with pytest.raises(ValueError, match='min_visible'):
        TRANSFORMS.build(dict(type='RemoveCutObjects', min_visible=share))
