"""Masks of detections: run lengths, polygons, pictures."""

import gc
import json

import cv2
import numpy as np
import pytest
import torch
from deqdet.inference.masks import area_of, decode_mask, encode_masks, polygons_of
from detecting import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmengine.structures import InstanceData
from pycocotools import mask as coco_masks
from scipy.ndimage import binary_fill_holes

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def rle_of(mask):
    rle, = encode_masks(InstanceData(masks=torch.from_numpy(mask)[None])).masks
    return json.loads(json.dumps(rle))


@settings(deadline=None, max_examples=200)
@given(MASKS)
def test_run_lengths_and_polygons_are_those_of_the_mask(mask):
    rle = rle_of(mask)
    assert (decode_mask(rle) == mask).all() and area_of(rle) == mask.sum()
    polygons = polygons_of(rle)
    assert bool(polygons) == mask.any()
    if polygons:
        assert min(map(len, polygons)) >= 8
        again = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(polygons, *mask.shape)))
        assert (again == binary_fill_holes(mask)).all()


def test_the_polygon_of_one_pixel_is_its_edges():
    mask = np.zeros((5, 7), dtype=bool)
    mask[2, 4] = True
    polygon, = polygons_of(rle_of(mask))
    assert sorted(zip(polygon[::2], polygon[1::2])) == [(4, 2), (4, 3), (5, 2), (5, 3)]


def test_masks_of_predictions_are_those_of_the_model(masked, tmp_path):
    images = [picture(seed, (60, 80 + 10 * seed)) for seed in range(2)]
    results = masked(images, batch_size=2, out_dir=tmp_path, no_save_pred=False, no_save_vis=True)
    (_, data), = masked.preprocess(images, batch_size=2)
    assert masked.has_masks
    for image, found, raw in zip(images, results['predictions'], masked.forward(data)):
        expected = raw.pred_instances.masks
        assert expected.shape == (12, *image.shape[:2]) and 0 < expected.float().mean() < 1
        assert (np.stack([decode_mask(each) for each in found['masks']]) == expected.numpy()).all()
    written = [json.loads(path.read_text()) for path in sorted((tmp_path / 'preds').iterdir())]
    assert written == results['predictions']
    samples = masked(images, return_datasamples=True)['predictions']
    assert [type(sample.pred_instances.masks) for sample in samples] == [list, list]


def test_booleans_do_not_outlive_the_detection(masked):
    def booleans():
        return [each for each in gc.get_objects()
                if type(each) is torch.Tensor and each.dtype == torch.bool and each.ndim == 3]

    before, images = len(booleans()), [picture(seed) for seed in range(4)]
    results = masked.forward(next(iter(masked.preprocess(images, batch_size=2)))[1])
    assert len(booleans()) == before + 2  # so they would be found
    del results
    for found in (masked.batches(images, batch_size=2), masked.frames(images)):
        kept = []
        for each in found:
            kept.append(each)
            assert len(booleans()) == before


def test_mask_scores(masked):
    head = masked.model.roi_head
    before = head.prediction
    head.prediction = head.prediction_with(mask_scores=True)
    try:
        found, = masked(picture())['predictions']
    finally:
        head.prediction = before
    assert list(found) == ['labels', 'scores', 'bboxes', 'masks', 'mask_scores']
    assert all(0 <= of_mask <= score for of_mask, score in zip(found['mask_scores'], found['scores']))
    assert found['mask_scores'] != found['scores']


def test_frames_start_at_the_last_one_with_masks_too(masked):
    frames = [picture(0), picture(1)]
    warm, cold = ([found.sample.pred_instances for found in masked.frames(frames, warm=warm, steps=1)]
                  for warm in (True, False))
    assert warm[0].masks == cold[0].masks and len(warm[0].masks) == 12
    assert not torch.equal(warm[1].scores, cold[1].scores)


def test_a_picture_has_the_masks_below_its_boxes(masked):
    """The same picture from RLE and from booleans, and in each run: nothing is random."""
    image = picture()
    (_, data), = masked.preprocess([image])
    raw, = masked.forward(data)
    found, = masked(image, return_datasamples=True)['predictions']
    drawn = masked.paint(image, found, score=0)
    assert (drawn == masked.paint(image, raw, score=0)).all()
    assert (image == picture()).all() and len(found.pred_instances.masks) == 12  # not changed
    without = masked.paint(image, found, score=0, draw_masks=False)
    changed = (drawn != without).any(-1)
    covered = raw.pred_instances.masks.any(0).numpy()
    # Enlarged boxes are smoothed by a pixel.
    near = cv2.dilate(covered.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert 0 < changed.sum() and not (changed & ~near).any()
    assert (masked.paint(image, found, score=1) == image).all()


@pytest.mark.parametrize('score', [0.0, 1.0])
def test_objects_without_a_pixel_are_drawn(masked, score):
    image = picture()
    found, = masked(image, return_datasamples=True)['predictions']
    without = masked.paint(image, found, score=score, draw_masks=False)
    found.pred_instances.masks = [rle_of(np.zeros(image.shape[:2], dtype=bool))] * 12
    assert (masked.paint(image, found, score=score) == without).all()
