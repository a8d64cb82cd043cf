"""The test tool on COCO test-dev: an image list without annotations gives the server's files."""

import json
import os
import pickle
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from small_model import DEMO_CONFIG, ROOT, build

NAME = 'detections_test-dev2017_tiny_results'
# Ten of COCO's classes; their ids have gaps.
CLASSES = {'bicycle': 2, 'stop sign': 13, 'cat': 17, 'backpack': 27, 'cup': 47, 'bed': 65, 'tv': 72,
           'oven': 79, 'vase': 86, 'toothbrush': 90}
IMAGES = (11, 12, 40, 77, 581929)

CONFIG = '''
_base_ = [{base!r}, {fragment!r}]
metainfo = dict(classes={classes!r})
test_dataloader = dict(batch_size=2, dataset=dict(data_root='data/', metainfo=metainfo,
                                                  **_base_.test_dev_dataloader.dataset))
test_evaluator = dict(**_base_.test_dev_evaluator)
test_evaluator['ann_file'] = 'data/annotations/image_info_test-dev2017.json'
'''


@pytest.fixture
def set_of_images(tmp_path):
    """Images in COCO's folders with a list without annotations, the demo's config and a model."""
    generator = np.random.default_rng(0)
    (tmp_path / 'data' / 'test2017').mkdir(parents=True)
    (tmp_path / 'data' / 'annotations').mkdir()
    for image in IMAGES:
        cv2.imwrite(str(tmp_path / 'data' / 'test2017' / f'{image:012}.jpg'),
                    generator.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    (tmp_path / 'data' / 'annotations' / 'image_info_test-dev2017.json').write_text(json.dumps(dict(
        info={}, licenses=[],
        images=[dict(id=image, file_name=f'{image:012}.jpg', width=96, height=64) for image in IMAGES],
        categories=[dict(id=number, name=name) for name, number in CLASSES.items()])))
    fragment = ROOT / 'configs' / '_base_' / 'datasets' / 'coco_test-dev.py'
    (tmp_path / 'tiny.py').write_text(CONFIG.format(
        base=str(DEMO_CONFIG), fragment=str(fragment), classes=tuple(CLASSES)))
    model = build(Config.fromfile(str(DEMO_CONFIG)).model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'model.pth')
    return tmp_path


def check_files(folder):
    """Check the server's two files; returns the entries of the JSON file."""
    entries = json.loads((folder / f'{NAME}.json').read_text())
    with zipfile.ZipFile(folder / f'{NAME}.zip') as archive:
        assert archive.namelist() == [f'{NAME}.json']
        assert json.loads(archive.read(f'{NAME}.json')) == entries
    assert {entry['image_id'] for entry in entries} == set(IMAGES)
    # The demo keeps 20 detections per image.
    assert len(entries) == 20 * len(IMAGES)
    assert {entry['category_id'] for entry in entries} <= set(CLASSES.values())
    assert len({entry['category_id'] for entry in entries}) > 1
    for entry in entries:
        x, y, width, height = entry['bbox']
        assert np.isfinite([x, y]).all() and width > 0 and height > 0 and 0 < entry['score'] < 1
    return entries


def test_the_files_are_in_the_work_dir(call, set_of_images, capsys):
    call('test.py', 'tiny.py', 'model.pth', '--out', 'all.pkl')
    entries = check_files(set_of_images / 'work_dirs' / 'tiny')
    results = {result['img_id']: result['pred_instances']
               for result in pickle.loads((set_of_images / 'all.pkl').read_bytes())}
    ids = list(CLASSES.values())
    for entry in entries[:20]:
        pred = results[entry['image_id']]
        rank = pred['scores'].tolist().index(entry['score'])
        assert ids[pred['labels'][rank]] == entry['category_id']
        x1, y1, x2, y2 = pred['bboxes'][rank].tolist()
        assert entry['bbox'] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-4)
    out = capsys.readouterr().out
    assert 'Average Precision' not in out
    line, = [line for line in out.splitlines() if 'COCO submission' in line]
    assert '100 detections on 5 of 5 images' in line and f' ./work_dirs/tiny/{NAME}.json ' in line


def test_another_folder_and_name(call, set_of_images):
    call('test.py', 'tiny.py', 'model.pth', '--work-dir', 'here', '--cfg-options',
         'test_evaluator.name=other')
    assert (set_of_images / 'here' / 'detections_test-dev2017_other_results.zip').is_file()


def test_weights_that_are_not_finite(refused, set_of_images):
    checkpoint = torch.load('model.pth')
    checkpoint['state_dict']['roi_head.bbox_head.1.fc_cls.bias'][:] = np.nan
    torch.save(checkpoint, 'nan.pth')
    line = refused('test.py', 'tiny.py', 'nan.pth')
    assert '100 of 100 detections' in line and 'score nan' in line and '[output-failed]' in line
    assert not list((set_of_images / 'work_dirs' / 'tiny').glob('detections*'))


def test_the_image_list_is_named_with_where_to_get_it(refused, set_of_images):
    (set_of_images / 'data' / 'annotations' / 'image_info_test-dev2017.json').unlink()
    line = refused('test.py', 'tiny.py', 'model.pth')
    assert ' data/annotations/image_info_test-dev2017.json ' in line and '[missing-file]' in line
    assert 'http://images.cocodataset.org/annotations/image_info_test2017.zip' in line


def test_the_folder_of_images_is_named_with_where_to_get_it(refused, set_of_images):
    (set_of_images / 'data' / 'test2017').rename(set_of_images / 'data' / 'test')
    line = refused('test.py', 'tiny.py', 'model.pth')
    assert ' data/test2017/ ' in line and 'zips/test2017.zip' in line and '[missing-file]' in line


@pytest.mark.slow
def test_two_workers_write_what_one_writes(call, set_of_images):
    """Five images, so one worker gets one of them twice."""
    call('test.py', 'tiny.py', 'model.pth')
    expected = check_files(set_of_images / 'work_dirs' / 'tiny')
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'dist_test.sh'), 'tiny.py', 'model.pth', '2', '--work-dir', 'two',
         '--cfg-options', 'test_evaluator.name=tiny'],
        cwd=set_of_images, capture_output=True, text=True, timeout=300,
        env=dict(os.environ, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1'))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('COCO submission:') == 1 and 'Average Precision' not in done.stdout
    found = check_files(set_of_images / 'two')
    def key(entry):
        return entry['image_id'], entry['category_id'], -entry['score']
    for one, two in zip(sorted(expected, key=key), sorted(found, key=key)):
        assert key(one)[:2] == key(two)[:2]
        assert one['bbox'] == pytest.approx(two['bbox'], rel=1e-4, abs=1e-2)
