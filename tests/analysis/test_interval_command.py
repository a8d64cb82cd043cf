"""The command that gives the AP of files of detections with intervals."""

import csv
import json

import numpy as np
import pytest
from refusals import says

# Of the exact boxes of the digits.
SHARE = 0.8


@pytest.fixture(scope='module')
def truth(tmp_path_factory):
    from deqdet.commands.dataset.make_digits import make_digits
    folder = tmp_path_factory.mktemp('digits')
    make_digits(folder, train=0, val=12, test=0)
    return folder / 'annotations/val.json'


def detections(truth, path, share, seed=0):
    """A file with the exact boxes and masks of a share of the digits."""
    random = np.random.default_rng(seed)
    found = [dict(image_id=each['image_id'], category_id=each['category_id'], bbox=each['bbox'], score=0.5,
                  segmentation=each['segmentation'])
             for each in json.loads(truth.read_text())['annotations'] if random.random() < share]
    path.write_text(json.dumps(found))
    return path


def table(path):
    with open(path.with_suffix('.csv'), newline='') as file:
        return {row['metric']: row for row in csv.DictReader(file)}


@pytest.mark.parametrize('masks', [[], ['--masks']], ids=['boxes', 'masks'])
def test_ap_with_intervals(call, truth, tmp_path, masks):
    files = [detections(truth, tmp_path / f'{seed}.json', SHARE, seed) for seed in (0, 1)]
    call('analysis/intervals.py', truth, *files, '--draws', 50, '--out', tmp_path / 'table', *masks)
    found = table(tmp_path / 'table')
    assert set(found) == {f'{"mask " if masks else ""}{metric}' for metric in ('AP', 'AP50')}
    for row in found.values():
        assert (row['images'], row['seeds']) == ('12', '2')
        assert 0 < float(row['low']) < float(row['value']) < float(row['high']) < 1
    whole = detections(truth, tmp_path / 'whole.json', 1)
    call('analysis/intervals.py', truth, whole, '--draws', 5, '--out', tmp_path / 'table', *masks)
    assert {float(row['low']) for row in table(tmp_path / 'table').values()} == {1.0}


def test_one_picture_with_many_detections(call, tmp_path):
    """A photograph in windows: no interval, and all detections count."""
    boxes = [[10. * (n % 20), 10. * (n // 20), 8., 8.] for n in range(150)]
    (tmp_path / 'truth.json').write_text(json.dumps(dict(
        images=[dict(id=0, file_name='a.png', width=200, height=100)], categories=[dict(id=1, name='a')],
        annotations=[dict(id=n + 1, image_id=0, category_id=1, bbox=box, area=64., iscrowd=0)
                     for n, box in enumerate(boxes)])))
    (tmp_path / 'found.json').write_text(json.dumps(
        [dict(image_id=0, category_id=1, bbox=box, score=0.5) for box in boxes]))
    words = ['analysis/intervals.py', tmp_path / 'truth.json', tmp_path / 'found.json', '--draws', 1,
             '--out', tmp_path / 'table']
    call(*words)
    limited = table(tmp_path / 'table')['AP']
    assert 'low' not in limited and float(limited['value']) == pytest.approx(0.67, abs=0.01)
    call(*words, '--limit', 10000)
    assert float(table(tmp_path / 'table')['AP']['value']) == 1


@pytest.mark.parametrize('content, words', [
    (None, 'found.json does not exist'),
    ('[', 'is not a JSON file'),
    ('{"images": []}', 'is not a list of detections; use ... outfile_prefix'),
    ('[{"image_id": 99, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]', 'detection 0: image_id 99'),
    ('[{"image_id": 1, "category_id": 77, "bbox": [1, 2, 3, 4], "score": 0.5}]', 'category_id 77'),
    ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2], "score": 0.5}]', 'bbox [1, 2] is not four')])
def test_other_files_are_refused(refused, truth, tmp_path, content, words):
    if content is not None:
        (tmp_path / 'found.json').write_text(content)
    line = refused('analysis/intervals.py', truth, tmp_path / 'found.json', '--out', tmp_path / 'table')
    assert says(line, words)
    assert not (tmp_path / 'table.csv').exists()


def _without_area(data):
    del data['annotations'][0]['area']


def _without_mask(data):
    del data['annotations'][0]['segmentation']


def _without_objects(data):
    data['annotations'] = []


@pytest.mark.parametrize('damage, masks, words', [
    (_without_area, [], "1 ... 'area' ... [bad-annotations]"),
    (_without_mask, ['--masks'], "1 of ... 'segmentation' ... leave out --masks [bad-annotations]"),
    (_without_objects, [], 'no annotations ... [bad-annotations]')])
def test_annotations_that_cannot_be_evaluated(refused, truth, tmp_path, damage, masks, words):
    found = detections(truth, tmp_path / 'found.json', 1)
    data = json.loads(truth.read_text())
    damage(data)
    (tmp_path / 'truth.json').write_text(json.dumps(data))
    line = refused('analysis/intervals.py', 'truth.json', found, '--out', 'table', *masks)
    assert says(line, f'truth.json: ... {words}') and not (tmp_path / 'table.csv').exists()


def test_files_in_the_wrong_order_or_place(refused, truth, tmp_path):
    found = detections(truth, tmp_path / 'found.json', 1)
    assert says(refused('analysis/intervals.py', found, truth), 'found.json ... annotations comes first')
    assert says(refused('analysis/intervals.py', truth, tmp_path), 'is not a file [missing-file]')
    line = refused('analysis/intervals.py', truth, found, '--out', found / 'table')
    assert says(line, 'found.json ... --out ... [output-failed]')
