"""tools/detect.py --tile, and the inferencer with tile: detection in overlapping windows."""

import json
import weakref

import cv2
import numpy as np
import pytest
import torch
from deqdet import DEQDetInferencer
from deqdet.inference.masks import decode_mask
from deqdet.inference.windows import Tiling
from detecting import picture, with_masks_as_with_boxes, write_detector, write_pictures
from mmengine.registry import DefaultScope
from refusals import refused as refusal


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
    alone = inferencer(parts, return_datasamples=True)['predictions']
    expected = tiling.merged([each.pred_instances for each in alone], image.shape)
    found, = inferencer(image, tile=64, overlap=0.3, return_datasamples=True)['predictions']
    assert found.ori_shape == (100, 150)
    mine = found.pred_instances
    assert 0 < len(mine) < sum(len(each.pred_instances) for each in alone)
    assert torch.equal(mine.bboxes, expected.bboxes) and torch.equal(mine.scores, expected.scores)
    if inferencer.has_masks:
        assert mine.masks == expected.masks
        assert all(decode_mask(mask).shape == (100, 150) for mask in mine.masks)
    # Not as in the whole picture at once: small objects are larger in a window.
    assert not np.array_equal(inferencer(image)['predictions'][0]['scores'], mine.scores.numpy()[:12])


def test_windows_of_a_batch_at_a_time_and_no_features_of_the_others(inferencer):
    """What the neck gave for a batch is gone when the next batch arrives."""
    alive: list = []
    sizes = []

    def seen(_, __, levels):
        assert not [each for each in alive if each() is not None]
        alive[:] = [weakref.ref(level) for level in levels]
        sizes.append(len(levels[0]))

    hook = inferencer.model.neck.register_forward_hook(seen)
    try:
        first, = inferencer(picture(1, (90, 200)), tile=48, batch_size=4)['predictions']
    finally:
        hook.remove()
    count = len(Tiling(48).windows(90, 200))
    assert sizes == [4] * (count // 4) + [count % 4] * bool(count % 4) and len(sizes) > 2
    again, = inferencer(picture(1, (90, 200)), tile=48)['predictions']
    np.testing.assert_allclose(first['scores'][:5], again['scores'][:5], atol=1e-4)


def test_a_picture_smaller_than_a_window_is_one_window(inferencer):
    image = picture(0, (60, 80))
    assert inferencer(image, tile=200)['predictions'] == inferencer(image)['predictions']


@with_masks_as_with_boxes
def test_a_folder_by_command(call, inferencer, files, tmp_path, capsys):
    """Files, pictures and COCO's JSON; a broken file; the same in a second run and with several shards."""
    write_pictures(tmp_path / 'in', 3)
    cv2.imwrite(str(tmp_path / 'in/large.png'), picture(7, (140, 170)))
    (tmp_path / 'in/broken.png').write_bytes(b'no image')
    words = ['detect.py', *files, 'in', '--tile', 64, '--overlap', 0.3, '--batch-size', 3, '--score', 0]
    with pytest.raises(SystemExit) as caught:
        call(*words, '--csv', 'all.csv')
    assert caught.value.code == 3
    data, printed = load('detections/detections.json'), capsys.readouterr()
    assert (data['info']['tile'], data['info']['overlap']) == (64, 0.3)
    assert '4 images' in printed.out and 'broken.png' in printed.err
    assert [(each['file_name'], each['height'], each['width']) for each in data['images']][-1] == (
        'large.png', 140, 170)
    assert cv2.imread('detections/vis/large.png').shape == (140, 170, 3)
    for image in data['images']:
        found = [each for each in data['annotations'] if each['image_id'] == image['id']]
        expected, = inferencer(str(tmp_path / 'in' / image['file_name']), tile=64, overlap=0.3, batch_size=3
                               )['predictions']
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
    words = ['detect.py', *files, 'in', '--no-pictures']
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
