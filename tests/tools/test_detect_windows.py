"""tools/detect.py --tile, and the inferencer with tile: detection in overlapping windows."""

import json
import weakref
from contextlib import redirect_stdout
from io import StringIO

import cv2
import numpy as np
import pytest
import torch
from deqdet import DEQDetInferencer
from deqdet.inference.masks import decode_mask
from deqdet.inference.windows import Tiling
from detecting import picture, with_masks_as_with_boxes, write_detector, write_pictures
from mmengine.registry import DefaultScope
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from refusals import refused as refusal
from small_model import DEMO_CONFIG


@pytest.fixture(scope='module')
def files(request, tmp_path_factory):
    """Config and checkpoint."""
    return write_detector(tmp_path_factory.mktemp('detector'), getattr(request, 'param', ''))


@pytest.fixture(scope='module')
def inferencer(files):
    """An inferencer for them."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DEQDetInferencer(*files, show_progress=False)


def load(path):
    return json.loads(open(path).read())


def corners(found):
    return [[x, y, x + width, y + height] for x, y, width, height in (each['bbox'] for each in found)]


@with_masks_as_with_boxes
def test_detections_are_those_of_the_windows_merged(inferencer):
    """Each window alone, as a picture of its own, gives the same."""
    image, tiling = picture(3, (100, 150)), Tiling(64, 0.3)
    windows = tiling.windows(100, 150)
    assert len(windows) == 6
    parts = [image[each.top:each.bottom, each.left:each.right] for each in windows]
    alone = inferencer(parts, steps=1, return_datasamples=True)['predictions']
    expected = tiling.merged([each.pred_instances for each in alone], image.shape)
    found, = inferencer(image, tile=64, overlap=0.3, steps=1, return_datasamples=True)['predictions']
    assert found.ori_shape == (100, 150)
    mine = found.pred_instances
    assert 0 < len(mine) < sum(len(each.pred_instances) for each in alone)
    assert torch.equal(mine.bboxes, expected.bboxes) and torch.equal(mine.scores, expected.scores)
    if inferencer.has_masks:
        assert mine.masks == expected.masks
        assert all(decode_mask(mask).shape == (100, 150) for mask in mine.masks)
    # Not as in the whole picture at once: small objects are larger in a window.
    at_once, = inferencer(image, steps=1)['predictions']
    assert at_once['scores'] != mine.scores.tolist()[:12]


def test_windows_of_a_batch_at_a_time_and_no_features_of_the_others(inferencer):
    """What the neck gave for a batch is gone when the next batch arrives."""
    image, sizes = picture(1, (80, 160)), []
    alive: list = []

    def seen(_, __, levels):
        assert not [each for each in alive if each() is not None]
        alive[:] = [weakref.ref(level) for level in levels]
        sizes.append(len(levels[0]))

    hook = inferencer.model.neck.register_forward_hook(seen)
    try:
        first, = inferencer(image, tile=48, batch_size=4, steps=0)['predictions']
    finally:
        hook.remove()
    count = len(Tiling(48).windows(80, 160))
    assert sizes == [4] * (count // 4) + [count % 4] * bool(count % 4) and len(sizes) > 2
    again, = inferencer(image, tile=48, steps=0)['predictions']
    np.testing.assert_allclose(first['scores'][:5], again['scores'][:5], atol=1e-4)


def test_a_picture_smaller_than_a_window_is_one_window(inferencer):
    image = picture(0, (60, 80))
    assert inferencer(image, tile=200)['predictions'] == inferencer(image)['predictions']


@with_masks_as_with_boxes
def test_a_folder_by_command(call, inferencer, files, tmp_path, capsys):
    """Files, pictures and COCO's JSON; a broken file; the same in a second run and with several shards."""
    write_pictures(tmp_path / 'in', 1)
    cv2.imwrite(str(tmp_path / 'in/large.png'), picture(7, (70, 150)))
    (tmp_path / 'in/broken.png').write_bytes(b'no image')
    words = ['detect.py', *files, 'in', '--tile', 64, '--overlap', 0.3, '--batch-size', 3, '--score', 0,
             '--steps', 0]
    with pytest.raises(SystemExit) as caught:
        call(*words, '--csv', 'all.csv')
    assert caught.value.code == 3
    data, printed = load('detections/detections.json'), capsys.readouterr()
    assert (data['info']['tile'], data['info']['overlap']) == (64, 0.3)
    assert '2 images' in printed.out and 'broken.png' in printed.err
    assert [(each['file_name'], each['height'], each['width']) for each in data['images']][-1] == (
        'large.png', 70, 150)
    assert cv2.imread('detections/vis/large.png').shape == (70, 150, 3)
    for image in data['images']:
        found = [each for each in data['annotations'] if each['image_id'] == image['id']]
        expected, = inferencer(str(tmp_path / 'in' / image['file_name']), tile=64, overlap=0.3, batch_size=3,
                               steps=0)['predictions']
        np.testing.assert_allclose(corners(found), expected['bboxes'], atol=1e-3)
        assert [each['score'] for each in found] == expected['scores']
        assert [each['segmentation'] for each in found if 'segmentation' in each] == expected.get('masks', [])
    before = (tmp_path / 'detections/journal.jsonl').read_bytes()
    with pytest.raises(SystemExit):
        call(*words)
    assert (tmp_path / 'detections/journal.jsonl').read_bytes() == before
    for shard in ('2/2', '1/2'):
        try:
            call(*words, '--out', 'shards', '--shard', shard)
        except SystemExit as exit:
            assert exit.code == 3
    assert load('shards/detections.json') == data


def test_another_tile_is_another_run(call, refused, files, tmp_path):
    write_pictures(tmp_path / 'in', 1)
    words = ['detect.py', *files, 'in', '--no-pictures', '--steps', 0]
    call(*words, '--tile', 64)
    line = refused(*words, '--tile', 48)
    assert 'tile 64, now 48' in line and '--restart' in line and line.endswith(' [bad-journal]')
    line = refused(*words)
    assert 'tile 64, now None' in line and line.endswith(' [bad-journal]')


@pytest.mark.parametrize('words, said, code', [
    (['--tile', 16], '--tile=16', 'bad-argument'), (['--tile', 'x'], '--tile', 'bad-argument'),
    (['--tile', 64, '--overlap', 1], '--overlap=1', 'bad-argument'),
    (['--overlap', 0.5], 'add --tile', 'missing-argument'),
    (['--tile', 64, '--frames'], 'not for videos', 'bad-argument')])
def test_options_that_make_no_sense(refused, files, tmp_path, words, said, code):
    write_pictures(tmp_path / 'in', 1)
    line = refused('detect.py', *files, 'in', *words)
    assert said in line and line.endswith(f' [{code}]') and not (tmp_path / 'detections').exists()


def test_a_video_has_no_windows(inferencer, refused, files, tmp_path):
    with refusal('bad-argument', 'tile=64', 'a.mp4'):
        inferencer('a.mp4', tile=64)
    (tmp_path / 'a.mp4').write_bytes(b'')
    assert '--tile 64 is for images' in refused('detect.py', *files, 'a.mp4', '--tile', 64)
    with refusal('missing-argument', 'overlap', 'tile'):
        inferencer.batches([picture()], overlap=0.5)


def mosaic_of(truth, folder, side=10):
    """A picture of the first images in rows, and the boxes (x, y, w, h) and category ids in it."""
    size = truth['images'][0]['width']
    images = [cv2.imread(str(folder / each['file_name'])) for each in truth['images'][:side ** 2]]
    rows = [np.hstack(images[first:first + side]) for first in range(0, side ** 2, side)]
    objects = []
    for each in truth['annotations']:
        row, column = divmod(each['image_id'] - 1, side)
        if row < side:
            x, y, width, height = each['bbox']
            objects.append(([x + column * size, y + row * size, width, height], each['category_id']))
    return np.vstack(rows), objects


def average_precision(found, objects):
    """AP of one picture, over all detections."""
    with redirect_stdout(StringIO()):
        truth = COCO()
        truth.dataset = dict(
            images=[dict(id=1)], categories=[dict(id=number + 1) for number in range(10)],
            annotations=[dict(id=number, image_id=1, category_id=category, bbox=box, area=box[2] * box[3],
                              iscrowd=0) for number, (box, category) in enumerate(objects, 1)])
        truth.createIndex()
        results = [dict(image_id=1, category_id=label + 1, bbox=[x1, y1, x2 - x1, y2 - y1], score=score)
                   for label, score, (x1, y1, x2, y2) in zip(*(found[key] for key in (
                       'labels', 'scores', 'bboxes')))]
        evaluation = COCOeval(truth, truth.loadRes(results), 'bbox')
        evaluation.params.maxDets = [1, 10, 10000]
        evaluation.evaluate()
        evaluation.accumulate()
    values = evaluation.eval['precision'][:, :, :, 0, 2]
    return values[values >= 0].mean()


@pytest.mark.slow
def test_the_demo_reads_a_picture_with_hundreds_of_digits(demo):
    """A picture has more digits than the model has queries; in windows nearly all are found."""
    folder = demo.folder / 'data/digits'
    image, objects = mosaic_of(load(folder / 'annotations/val.json'), folder / 'val')
    detect = DEQDetInferencer(DEMO_CONFIG, demo.checkpoint(0), show_progress=False)
    assert image.shape == (960, 960, 3) and len(objects) > 200
    at_once, = detect(image)['predictions']
    found, = detect(image, tile=96, overlap=0.5, batch_size=8)['predictions']
    assert average_precision(at_once, objects) < 0.1
    # Each image alone has the AP of the demo. Windows also show the seams of the mosaic.
    assert average_precision(found, objects) > demo.ap[0, 8][0] - 0.05
    extra = lost = 0
    for (x, y, width, height), category in objects:
        matched = 0
        for label, score, (x1, y1, x2, y2) in zip(*(found[key] for key in ('labels', 'scores', 'bboxes'))):
            common = max(0, min(x2, x + width) - max(x1, x)) * max(0, min(y2, y + height) - max(y1, y))
            matched += score > 0.3 and label + 1 == category and common > 0.5 * (x2 - x1) * (y2 - y1)
        extra, lost = extra + max(0, matched - 1), lost + (not matched)
    assert extra <= 0.01 * len(objects) and lost <= 0.05 * len(objects)
