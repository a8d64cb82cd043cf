"""tools/dataset/make_pasted.py on cut-outs from scikit-learn, and on stamps if a folder of them is given."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cutouts import digit_cutouts, oval_cutouts, photographs, write, write_backgrounds, write_cutouts
from pycocotools import mask as coco_masks
from small_model import ROOT

TOOL, SPLITS = 'dataset/make_pasted.py', ('train', 'tune', 'test')
CONFIG = ROOT / 'configs/deqdet/deqdet_pasted.py'
#: The folder of Debian's package tuxpaint-stamps-default: usr/share/tuxpaint/stamps of the unpacked file.
STAMPS = os.environ.get('DEQDET_STAMPS')
OPTIONS = ('--train', 6, '--tune', 3, '--test', 2, '--image-size', 140, 110, '--max-size', 90)


@pytest.fixture
def material(tmp_path):
    """Folders of cut-outs and of backgrounds, in the current folder of the test."""
    return write_cutouts(tmp_path / 'cutouts'), write_backgrounds(tmp_path / 'photos')


@pytest.fixture
def make(call, material):
    """Call the command for these folders."""
    return lambda *words: call(TOOL, 'cutouts', 'photos', *OPTIONS, *words)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


def check_set(out, counts, *, width, height, overlap=0.5, objects=(1, 8), rle=True):
    """Every property that the command promises; returns the content of all annotation files."""
    splits = [split for split in SPLITS if counts.get(split)]
    found = {path.stem: json.loads(path.read_text()) for path in (out / 'annotations').iterdir()}
    assert found.keys() == set(splits)
    seen = set()
    for split, data in found.items():
        classes = data['info']['arguments']['classes']
        assert [(each['id'], each['name']) for each in data['categories']] == list(enumerate(classes, 1))
        names = [f'{number:06d}.png' for number in range(1, counts[split] + 1)]
        assert [each['file_name'] for each in data['images']] == names
        assert sorted(path.name for path in (out / split).iterdir()) == names
        assert [each['id'] for each in data['annotations']] == list(range(1, len(data['annotations']) + 1))
        for image in data['images']:
            picture = cv2.imread(str(out / split / image['file_name']), cv2.IMREAD_UNCHANGED)
            assert picture.shape == (height, width, 3) == (image['height'], image['width'], 3)
            own = [each for each in data['annotations'] if each['image_id'] == image['id']]
            assert 1 <= len(own) <= objects[1]
            taken = np.zeros((height, width), dtype=int)
            for each in own:
                assert each['iscrowd'] == 0 and 1 - overlap - 1e-4 <= each['visible'] <= 1
                assert each['cutout'].split('/')[0] == classes[each['category_id'] - 1]
                if not rle:
                    continue
                mask = coco_masks.decode(each['segmentation']).astype(bool)
                ys, xs = np.nonzero(mask)
                x, y, w, h = each['bbox']
                assert (x, y, x + w, y + h) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                assert each['area'] == mask.sum() and mask.shape == (height, width)
                taken += mask
            assert taken.max() <= 1, 'a pixel has two objects'
        cutouts = {each['cutout'] for each in data['annotations']}
        assert not cutouts & seen, 'a cut-out is in two splits'
        seen |= cutouts
    return found


def test_pictures_masks_and_splits(make, tmp_path, capsys):
    make('--out', 'set', '--objects', 2, 5)
    found = check_set(tmp_path / 'set', dict(train=6, tune=3, test=2), width=140, height=110, objects=(2, 5))
    info = found['tune']['info']
    assert info['arguments']['classes'] == ['animals', 'food', 'plants']
    assert info['cutouts'] == dict(animals=1, food=1, plants=1) and info['backgrounds'] == 1
    assert found['train']['info']['cutouts'] == dict(animals=5, food=3, plants=1)
    assert (info['arguments']['seed'], info['arguments']['min_size']) == (0, 8)
    assert 'cut-outs and backgrounds' in info['licence'] and len(info['arguments']['sha256']['cutouts']) == 64
    backgrounds = [{image['background'] for image in found[split]['images']} for split in SPLITS]
    assert not backgrounds[0] & backgrounds[1] and not (backgrounds[0] | backgrounds[1]) & backgrounds[2]
    assert any('/threes/' in each['cutout'] for data in found.values() for each in data['annotations'])
    out = capsys.readouterr().out
    assert "classes = ('animals', 'food', 'plants')" in out and 'train: 6 pictures' in out
    assert out.endswith('wrote set\n')


def test_pixels_beside_the_objects_are_those_of_the_background(make, tmp_path):
    """A crop that was not resized is in the photograph, but for the objects and their soft edges."""
    shutil.rmtree('photos')
    for number in range(3):  # of the size of a picture: the crop is all of it
        write(Path(f'photos/{number}.png'), photographs()[0][100 * number:][:110, :140])
    make('--out', 'set', '--classes', 'food')
    found = check_set(tmp_path / 'set', dict(train=6, tune=3, test=2), width=140, height=110)
    # Two splits with equal numbers of cut-outs and backgrounds do not have the same places.
    first = [[each['bbox'] for each in found[split]['annotations'] if each['image_id'] == 1]
             for split in ('tune', 'test')]
    assert first[0] != first[1]
    for split, data in found.items():
        for image in data['images']:
            beside = np.ones((110, 140), dtype=np.uint8)
            for each in data['annotations']:
                if each['image_id'] == image['id']:
                    beside[coco_masks.decode(each['segmentation']) > 0] = 0
            beside = cv2.erode(beside, np.ones((25, 25)), borderValue=1) > 0
            picture = cv2.imread(str(tmp_path / 'set' / split / image['file_name']))
            source = cv2.imread(str(tmp_path / 'photos' / image['background']))
            assert image['crop'] == [0, 0, 140, 110] and beside.any()
            assert (picture == source)[beside].all()
            assert not (picture == source).all()


def test_the_same_bytes_again_and_after_an_interruption(make, tmp_path):
    make('--out', 'set')
    make('--out', 'other')
    once = files(tmp_path / 'set')
    assert once == files(tmp_path / 'other')
    # What Ctrl-C leaves: pictures without their annotation file.
    (tmp_path / 'set/annotations/test.json').unlink()
    (tmp_path / 'set/test/000002.png').unlink()
    make('--out', 'set')
    assert files(tmp_path / 'set') == once


def test_another_seed_and_other_numbers(make, tmp_path):
    make('--out', 'set')
    make('--out', 'seed', '--seed', 1)
    make('--out', 'fewer', '--train', 2)
    once, seed, fewer = (files(tmp_path / name) for name in ('set', 'seed', 'fewer'))
    assert not any(once[name] == seed[name] for name in once)
    assert all(once[name] == fewer[name] for name in fewer if name.endswith('.png'))
    # Each cut-out stays in its split.
    ours, other = ({each['cutout']: split for split in SPLITS for each in json.loads(
        made[f'annotations/{split}.json'])['annotations']} for made in (once, seed))
    assert ours.keys() & other.keys() and all(other.get(name, split) == split for name, split in ours.items())


def test_other_arguments_need_overwrite(make, refused, tmp_path):
    make('--out', 'set')
    words = [TOOL, 'cutouts', 'photos', *OPTIONS, '--out', 'set', '--train', 3, '--overlap', 0.2]
    line = refused(*words)
    assert 'train.json' in line and '--overwrite' in line and line.endswith(' [output-exists]')
    make('--out', 'set', '--train', 3, '--overlap', 0.2, '--overwrite')
    check_set(tmp_path / 'set', dict(train=3, tune=3, test=2), width=140, height=110, overlap=0.2)
    # Other files are other data.
    write(tmp_path / 'cutouts/plants/new.png', next(oval_cutouts(1, width=60, height=40)))
    assert refused(*words).endswith(' [output-exists]')


def test_a_folder_with_other_files_stays_as_it_is(refused, material, tmp_path):
    for name in ('set/notes.txt', 'set/train/photo.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text('mine')
        line = refused(TOOL, 'cutouts', 'photos', '--out', 'set')
        assert path.name in line and line.endswith(' [output-exists]')
        assert files(tmp_path / 'set') == {path.relative_to(tmp_path / 'set').as_posix(): b'mine'}
        shutil.rmtree(tmp_path / 'set')


def test_few_backgrounds_few_splits_and_polygons(make, tmp_path, capsys):
    for number in (2, 3):
        (tmp_path / f'photos/{number}.jpg').unlink()
    make('--out', 'set', '--masks', 'polygons', '--test', 0)
    out = capsys.readouterr().out
    found = check_set(tmp_path / 'set', dict(train=6, tune=3), width=140, height=110, rle=False)
    assert 'its own part' not in out and {len(found[split]['images']) for split in found} == {6, 3}
    polygons = [each['segmentation'] for data in found.values() for each in data['annotations']]
    assert all(isinstance(part, list) and len(part) >= 8 for each in polygons for part in each)
    make('--out', 'three')
    assert 'photos: only 2 for 3 splits' in capsys.readouterr().out
    found = check_set(tmp_path / 'three', dict(train=6, tune=3, test=2), width=140, height=110)
    # Crops of different splits have no pixel in common.
    for name in ('0.jpg', '1.jpg'):
        shown = [np.zeros((427, 640), dtype=bool) for _ in SPLITS]
        for part, split in zip(shown, SPLITS):
            for image in found[split]['images']:
                x, y, w, h = image['crop']
                part[y:y + h, x:x + w] |= image['background'] == name
        assert not (shown[0] & shown[1] | shown[0] & shown[2] | shown[1] & shown[2]).any()


def test_classes_and_names_to_leave_out(make, tmp_path, capsys):
    write(tmp_path / 'cutouts/loose.png', next(oval_cutouts(1)))
    shutil.copy(tmp_path / 'cutouts/food/oval1.png', tmp_path / 'cutouts/food/twin.png')
    make('--out', 'set', '--classes', 'food', 'animals', '--exclude', 'threes', 'oval2*')
    found = check_set(tmp_path / 'set', dict(train=6, tune=3, test=2), width=140, height=110)
    assert [each['name'] for each in found['train']['categories']] == ['animals', 'food']
    used = {each['cutout'] for data in found.values() for each in data['annotations']}
    assert not any('threes' in name or 'oval2' in name or 'twin' in name for name in used)
    out = capsys.readouterr().out
    assert 'copies of others: 1' in out and 'twin.png' in out and 'loose.png' in out


def _opaque(folder):
    for number in range(4):
        write(folder / f'cutouts/food/flat{number}.png', photographs()[0][:50, :60])


def _transparent(folder):
    write(folder / 'cutouts/food/empty.png', np.zeros((40, 40, 4), np.uint8))


def _broken(folder):
    path = folder / 'cutouts/food/oval1.png'
    path.write_bytes(path.read_bytes()[:2000])


def _broken_background(folder):
    path = folder / 'photos/2.jpg'
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize('damage, words', [
    (_opaque, ('4 of 19', 'without transparency', 'food/flat0.png', '1 more', '--skip-bad')),
    (_transparent, ('1 of 16', 'without a visible pixel', 'food/empty.png')),
    (_broken, ('1 of 15', 'cannot be read', 'food/oval1.png')),
    (_broken_background, ('photos: 1 of 4', 'cannot be read', '2.jpg'))])
def test_pictures_that_cannot_be_used(make, refused, tmp_path, capsys, damage, words):
    make('--out', 'before')
    damage(tmp_path)
    line = refused(TOOL, 'cutouts', 'photos', '--out', 'set', *OPTIONS)
    assert not [word for word in words if word not in line] and line.endswith(' [bad-image]')
    assert not (tmp_path / 'set').exists()
    make('--out', 'set', '--skip-bad')
    assert words[1] in capsys.readouterr().out
    found = check_set(tmp_path / 'set', dict(train=6, tune=3, test=2), width=140, height=110)
    used = {each['cutout'] for data in found.values() for each in data['annotations']}
    assert not any('flat' in name or 'empty' in name for name in used)


@pytest.mark.parametrize('words, wrong', [
    (['--min-size', 120, '--max-size', 130], '--min-size 120'), (['--train', 0], '--train 0'),
    (['--min-size', 50, '--max-size', 40], '--min-size 50'), (['--tune', -1], '--tune -1'),
    (['--objects', 4, 2], '--objects 4 2'), (['--objects', 0, 2], '--objects 0'), (['--seed', 'x'], '--seed'),
    (['--overlap', 1], '--overlap 1'), (['--overlap', 'nan'], '--overlap nan'), (['--blur', -1], '--blur -1'),
    (['--image-size', 8, 100], '--image-size 8'), (['--rotation', 200], '--rotation 200'),
    (['--masks', 'none'], '--masks')])
def test_wrong_numbers(refused, material, tmp_path, words, wrong):
    line = refused(TOOL, 'cutouts', 'photos', '--out', 'set', *OPTIONS, *words)
    assert wrong in line and line.endswith(' [bad-argument]') and not (tmp_path / 'set').exists()


def test_folders_that_do_not_fit(refused, material, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'one/class').mkdir(parents=True)
    for cutouts, photos, words, code in (
            ('none', 'photos', ['none'], 'missing-file'), ('cutouts', 'none', ['none'], 'missing-file'),
            ('empty', 'photos', ['empty', 'sub-folder'], 'missing-file'),
            ('one', 'photos', ['class', 'no cut-outs'], 'missing-file'),
            ('cutouts', 'empty', ['empty', 'photographs'], 'missing-file')):
        line = refused(TOOL, cutouts, photos, '--out', 'set')
        assert not [word for word in words if word not in line] and line.endswith(f' [{code}]')
    line = refused(TOOL, 'cutouts', 'photos', '--out', 'set', '--classes', 'food', 'cars')
    assert 'cars' in line and 'animals, food, plants' in line and line.endswith(' [missing-file]')
    for number, picture in enumerate(digit_cutouts(1, 2)):
        write(tmp_path / f'cutouts/few/{number}.png', picture)
    line = refused(TOOL, 'cutouts', 'photos', '--out', 'set')
    assert 'few (2)' in line and '--test 0' in line and line.endswith(' [bad-argument]')
    (tmp_path / 'note.txt').write_text('mine')
    line = refused(TOOL, 'cutouts', 'photos', '--out', 'note.txt/set', '--exclude', 'few')
    assert '--out' in line and line.endswith(' [output-failed]')
    assert not (tmp_path / 'set').exists()


def test_one_folder_for_two_things(refused, make, tmp_path):
    for out in ('cutouts', 'cutouts/food/set', 'photos/set'):
        line = refused(TOOL, 'cutouts', 'photos', '--out', out, '--overwrite')
        assert f'--out {out}' in line and line.endswith(' [bad-argument]')
    make('--out', 'set')
    before = files(tmp_path / 'set')
    line = refused(TOOL, 'cutouts', 'set/train', '--out', 'set', '--overwrite')
    assert 'set/train' in line and line.endswith(' [bad-argument]') and files(tmp_path / 'set') == before
    shutil.copytree(tmp_path / 'cutouts', tmp_path / 'photos/below')
    for cutouts, photos, name in (('cutouts', 'cutouts', 'animals/'), ('photos/below', 'photos', 'below/')):
        line = refused(TOOL, cutouts, photos, '--out', 'other')
        assert '15 backgrounds are also cut-outs' in line and name in line
        assert line.endswith(' [bad-argument]')
    assert 'leaves out all' in refused(TOOL, 'cutouts', 'photos', '--out', 'other', '--exclude', '*')


def test_links_to_folders_are_followed_once(make, tmp_path):
    (tmp_path / 'cutouts/food').rename(tmp_path / 'elsewhere')
    (tmp_path / 'cutouts/food').mkdir()
    (tmp_path / 'cutouts/food/link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere/ring').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'photos').rename(tmp_path / 'far')
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos/link').symlink_to(tmp_path / 'far')
    make('--out', 'set', '--classes', 'food')
    found = check_set(tmp_path / 'set', dict(train=6, tune=3, test=2), width=140, height=110)
    assert found['train']['info']['cutouts'] == dict(food=3)
    assert all(each['cutout'].count('/') == 2 for each in found['train']['annotations'])


def test_the_reason_why_files_are_not_used(refused, material, tmp_path):
    shutil.copytree(tmp_path / 'cutouts/food', tmp_path / 'cutouts/meals')
    line = refused(TOOL, 'cutouts', 'photos', '--out', 'set')
    assert 'meals has no' in line and 'copies of others: 5' in line
    shutil.rmtree(tmp_path / 'cutouts/meals')
    photo = tmp_path / 'cutouts/food/photo.heic'
    photo.write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic')
    line = refused(TOOL, 'cutouts', 'photos', '--out', 'set')
    assert 'pillow-heif' in line or 'cannot be read' in line
    assert 'transparent' not in line and line.endswith(' [bad-image]')
    photo.unlink()
    for path in (tmp_path / 'photos').iterdir():
        path.unlink()
    write(tmp_path / 'photos/dot.png', photographs()[0][:1, :1])
    line = refused(TOOL, 'cutouts', 'photos', '--out', 'set')
    assert 'dot.png: 1 x 1' in line and '3 splits' in line and line.endswith(' [bad-image]')


def test_the_config_reads_the_set_without_a_finding(call, make, tmp_path, capsys):
    make('--out', 'data/pasted')
    with pytest.raises(SystemExit) as caught:
        call('dataset/check.py', CONFIG, '--workers', 1, '--out', 'report')
    report = json.loads((tmp_path / 'report/check.json').read_text())
    assert (caught.value.code, report['errors']) == (0, 0), capsys.readouterr().out
    assert report['images_read'] == 11


@pytest.mark.slow
def test_the_config_trains_and_tests_on_the_set(call, make, tmp_path, capsys):
    make('--out', 'data/pasted')
    options = ['--cfg-options', 'model.backbone.init_cfg=None', 'model.roi_head.refinement_steps=2',
               'model.roi_head.supervision_position=[2]']
    call('train.py', CONFIG, *options, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    checkpoint = tmp_path / 'work_dirs/deqdet_pasted/epoch_1.pth'
    saved = torch.load(checkpoint, map_location='cpu', weights_only=False)
    assert saved['meta']['dataset_meta']['classes'] == ('animals', 'food', 'plants')
    assert saved['state_dict']['roi_head.bbox_head.1.fc_cls.weight'].shape[0] == 3
    assert 'bbox_mAP' in capsys.readouterr().out
    call('test.py', CONFIG, checkpoint, *options)
    assert 'bbox_mAP' in capsys.readouterr().out


def test_other_classes_need_two_settings_and_one_line_says_so(refused, make, tmp_path):
    make('--out', 'data/pasted', '--classes', 'animals', 'food')
    words = ['train.py', CONFIG, '--cfg-options', 'model.backbone.init_cfg=None']
    line = refused(*words)
    assert 'plants' in line and 'metainfo' in line and line.endswith(' [classes-mismatch]')
    line = refused(*words, *(f'{split}_dataloader.dataset.metainfo.classes=animals,food'
                             for split in ('train', 'val', 'test')))
    assert 'num_classes=2' in line and line.endswith(' [classes-mismatch]')


@pytest.mark.slow
@pytest.mark.skipif(not STAMPS, reason='DEQDET_STAMPS names no folder of tuxpaint-stamps-default')
def test_real_cutouts(call, tmp_path):
    write_backgrounds(tmp_path / 'photos')
    call(TOOL, STAMPS, 'photos', '--out', 'set', '--classes', 'animals', 'food', 'plants', '--exclude',
         'cartoon', 'toys', 'plastic', '*_mirror.png', '--train', 30, '--tune', 10, '--test', 10)
    found = check_set(tmp_path / 'set', dict(train=30, tune=10, test=10), width=320, height=320)
    assert sum(len(data['annotations']) for data in found.values()) > 150
    cutouts = {name: sum(data['info']['cutouts'][name] for data in found.values())
               for name in ('animals', 'food', 'plants')}
    assert all(count > 30 for count in cutouts.values())
