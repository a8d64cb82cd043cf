"""The digits data set: properties of its annotations, and a second run."""

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deqdet.commands.dataset import make_digits as md
from scipy import ndimage

pytest.importorskip('sklearn')
Image = pytest.importorskip('PIL.Image')

SCRIPT = Path(__file__).parents[2] / 'tools' / 'dataset' / 'make_digits.py'

COUNTS = dict(train=12, val=6, test=5)
DRAWING = dict(image_size=96, digit_size=(24, 44), digits=(1, 4), darkness=(0.3, 0.7))


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A small data set that tests only read."""
    out = tmp_path_factory.mktemp('digits')
    assert md.make_digits(out, **COUNTS)
    return out


@pytest.fixture(scope='module')
def material():
    return md.load_material()


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def annotations(folder, split):
    return json.loads((folder / 'annotations' / f'{split}.json').read_text())


def run(*arguments, **kwargs):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)],
                          capture_output=True, text=True, **kwargs)


def overlap(a, b):
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    return ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah


def test_same_arguments_give_same_bytes(made, tmp_path):
    md.make_digits(tmp_path, **COUNTS)
    assert files(tmp_path) == files(made)


def test_pictures_and_boxes_are_those_before_there_were_masks(made):
    """Hashes of version 1 without masks, of the pixels and of the annotation files."""
    pixels, texts = hashlib.sha256(), hashlib.sha256()
    for path in sorted([*made.glob('train/*.png'), *made.glob('val/*.png')]):
        with Image.open(path) as picture:
            pixels.update(np.asarray(picture).tobytes())
    for split in ('train', 'val'):
        data = annotations(made, split)
        assert all(annotation.pop('segmentation') for annotation in data['annotations'])
        texts.update(json.dumps(data).encode())
    assert pixels.hexdigest() == 'd6c3509aa2442e281b32e3ef9d31c6ad619ee09efb7af4a65061526877f953e7'
    assert texts.hexdigest() == '0c6e08c9332f76177df398bc501ce54f6d70c39fd826c3aedcde566e93390851'


def test_another_seed_gives_other_pictures(made, tmp_path):
    md.make_digits(tmp_path, seed=1, **COUNTS)
    ours, other = files(made), files(tmp_path)
    assert ours.keys() == other.keys()
    assert not any(ours[name] == other[name] for name in ours)


def test_counts_do_not_change_earlier_images(made, tmp_path):
    md.make_digits(tmp_path, train=3, val=7, test=1)
    ours, other = files(made), files(tmp_path)
    names = [f'train/{i:06d}.png' for i in range(1, 4)] + [f'val/{i:06d}.png' for i in range(1, 7)]
    assert all(ours[name] == other[name] for name in names)
    shared = [a for a in annotations(made, 'train')['annotations'] if a['image_id'] <= 3]
    assert shared == annotations(tmp_path, 'train')['annotations']


@pytest.mark.parametrize('split', COUNTS)
def test_pycocotools_reads_it(made, split):
    coco_module = pytest.importorskip('pycocotools.coco')
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_module.COCO(str(made / 'annotations' / f'{split}.json'))
    assert [coco.cats[i]['name'] for i in range(1, 11)] == list('0123456789')
    assert len(coco.cats) == 10
    assert len(coco.imgs) == COUNTS[split] == len(list((made / split).iterdir()))
    assert 0 not in coco.anns  # the evaluation takes id 0 for "no match"
    for image in coco.imgs.values():
        with Image.open(made / split / image['file_name']) as picture:
            assert (picture.format, picture.mode) == ('PNG', 'RGB')
            assert picture.size == (image['width'], image['height']) == (96, 96)
        digits = coco.imgToAnns[image['id']]
        assert 1 <= len(digits) <= 4
        for digit in digits:
            x, y, w, h = digit['bbox']
            assert 0 <= x < x + w <= 96 and 0 <= y < y + h <= 96
            assert (digit['area'], digit['iscrowd']) == (w * h, 0)


def shown(folder, split):
    """The scans that the pictures of a split show."""
    return {digit['scan'] for digit in annotations(folder, split)['annotations']}


def test_no_scan_is_in_two_splits(made, material):
    scans, _ = material
    train, held_out = set(scans['train'].index), set(scans['val'].index)
    assert (len(train), len(held_out)) == (1400, 397)
    assert train | held_out == set(range(1797)) and not train & held_out
    assert shown(made, 'train') and shown(made, 'train') <= train
    assert shown(made, 'val') and shown(made, 'val') <= held_out
    assert shown(made, 'test') and shown(made, 'test') <= held_out - shown(made, 'val')


def test_a_data_set_without_test_images_gets_them(made, tmp_path):
    md.make_digits(tmp_path, **dict(COUNTS, test=0))
    (tmp_path / 'annotations' / 'test.json').unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*') if path.is_file()}
    assert md.make_digits(tmp_path, **COUNTS) and files(tmp_path) == files(made)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(md.UsageError, match='test 5 instead of 4'):
        md.make_digits(tmp_path, **dict(COUNTS, test=4))
    assert md.make_digits(tmp_path, **dict(COUNTS, test=4), overwrite=True)
    assert len(annotations(tmp_path, 'test')['images']) == 4 == len(list((tmp_path / 'test').iterdir()))


def test_validation_that_leaves_no_scan_for_test_images(tmp_path):
    with pytest.raises(md.UsageError, match='--val 900 shows all scans of the digit .*--test 0'):
        md.make_digits(tmp_path, train=1, val=900, digit_size=(8, 12), digits=(4, 4))
    assert not list((tmp_path / 'annotations').iterdir())


def test_category_is_the_label_of_the_scan(made):
    from sklearn.datasets import load_digits
    target = load_digits().target
    for split in COUNTS:
        for digit in annotations(made, split)['annotations']:
            assert digit['category_id'] == target[digit['scan']] + 1


@pytest.mark.parametrize('seed', range(20))
def test_boxes_are_tight_and_apart(material, seed):
    """On a black background, a pixel's brightness divided by the digit's colour is its alpha."""
    scans, _ = material
    black = [np.zeros((120, 130, 3), dtype=np.uint8)]
    image, digits = md.draw_image(np.random.default_rng(seed), scans['train'], black, **DRAWING)
    for i, one in enumerate(digits):
        assert not any(overlap(one['bbox'], other['bbox']) for other in digits[:i])
        x, y, w, h = one['bbox']
        inside = image[y:y + h, x:x + w].astype(float)
        colour = inside.max(axis=(0, 1))
        assert (colour > 0.8 * 150).all() and h <= 44 and w <= 44
        alpha = (inside / colour).mean(axis=2)
        # Each side of the box touches alpha above 0.25 ...
        assert min(side.max() for side in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])) > 0.24
        image[y:y + h, x:x + w] = 0
    # ... and no pixel outside is above it, for any digit.
    assert image.max() <= 0.25 * 255 + 1


def test_box_is_the_extent_of_alpha_above_a_quarter(material):
    scans, _ = material
    alpha = md.resize_alpha(scans['val'].alpha[0], 40)
    assert alpha.shape == (40, 40) and 0 <= alpha.min() and 0.8 < alpha.max() <= 1
    x, y, w, h = md.extent(alpha > 0.25)
    rows, columns = np.nonzero(alpha > 0.25)
    assert (x, y) == (columns.min(), rows.min())
    assert (x + w - 1, y + h - 1) == (columns.max(), rows.max())


@pytest.mark.parametrize('seed', range(10))
def test_masks_are_the_ink_of_each_digit(material, seed):
    coco_masks = pytest.importorskip('pycocotools.mask')
    scans, _ = material
    black = [np.zeros((120, 130, 3), dtype=np.uint8)]
    image, digits = md.draw_image(np.random.default_rng(seed), scans['train'], black, **DRAWING)
    masks = [coco_masks.decode(digit['segmentation']).astype(bool) for digit in digits]
    assert np.sum(masks, axis=0).max() == 1  # no digit covers another
    for digit, mask in zip(digits, masks):
        assert mask.shape == (96, 96) and isinstance(digit['segmentation']['counts'], str)
        assert coco_masks.toBbox(digit['segmentation']).tolist() == digit['bbox']
        x, y, w, h = digit['bbox']
        inside = image[y:y + h, x:x + w].astype(float)
        alpha = (inside / inside.max(axis=(0, 1))).mean(axis=2)
        # The brightest pixel may have alpha below 1, and colours are rounded.
        clear = abs(alpha - 0.25) > 0.06
        assert (mask[y:y + h, x:x + w] == (alpha > 0.25))[clear].all()
    # With polygons, only the masks differ.
    again, others = md.draw_image(
        np.random.default_rng(seed), scans['train'], black, **DRAWING, masks='polygons')
    np.testing.assert_array_equal(image, again)
    for other, digit, mask in zip(others, digits, masks):
        polygons = other.pop('segmentation')
        assert other == {key: value for key, value in digit.items() if key != 'segmentation'}
        drawn = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(polygons, 96, 96))).astype(bool)
        np.testing.assert_array_equal(drawn, ndimage.binary_fill_holes(mask))


def test_a_data_set_without_masks_stays_and_gets_them_on_request(made, tmp_path, capsys):
    md.main([str(tmp_path), '--train', '12', '--val', '6', '--test', '5'])
    for split in COUNTS:
        data = annotations(tmp_path, split)
        for annotation in data['annotations']:
            del annotation['segmentation']
        (tmp_path / 'annotations' / f'{split}.json').write_text(json.dumps(data))
    before = files(tmp_path)
    capsys.readouterr()
    md.main([str(tmp_path), '--train', '12', '--val', '6', '--test', '5'])
    out = capsys.readouterr().out
    assert 'without masks' in out and '--overwrite' in out and 'nothing to do' in out
    assert files(tmp_path) == before
    assert md.make_digits(tmp_path, **COUNTS, overwrite=True)
    assert files(tmp_path) == files(made)


def test_masks_of_another_form(tmp_path):
    md.make_digits(tmp_path, train=2, val=2, test=1)
    rle = files(tmp_path)
    with pytest.raises(md.UsageError, match='masks rle instead of polygons.*--overwrite'):
        md.make_digits(tmp_path, train=2, val=2, test=1, masks='polygons')
    assert md.make_digits(tmp_path, train=2, val=2, test=1, masks='polygons', overwrite=True)
    assert not md.make_digits(tmp_path, train=2, val=2, test=1, masks='polygons')
    assert all(isinstance(annotation['segmentation'][0], list) and len(annotation['segmentation'][0]) >= 8
               for annotation in annotations(tmp_path, 'train')['annotations'])
    polygons = files(tmp_path)
    assert {name for name in rle if rle[name] != polygons[name]} == {
        f'annotations/{split}.json' for split in COUNTS}
    with pytest.raises(md.UsageError, match='--masks bits .*rle, polygons'):
        md.make_digits(tmp_path, masks='bits')


def test_missing_pycocotools_leaves_the_annotations(tmp_path, monkeypatch):
    md.make_digits(tmp_path, train=2, val=2, test=1)
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    with pytest.raises(md.UsageError, match='pip install pycocotools'):
        md.make_digits(tmp_path, train=2, val=3, test=1, overwrite=True)
    assert len(annotations(tmp_path, 'val')['images']) == 2


def test_photo_is_darkened_outside_the_digits(material):
    scans, _ = material
    white = [np.full((96, 96, 3), 200, dtype=np.uint8)]
    for seed in range(10):
        image, _ = md.draw_image(np.random.default_rng(seed), scans['train'], white,
                                 **dict(DRAWING, digits=(1, 1), digit_size=(24, 30)))
        assert 0.3 * 200 - 1 <= np.median(image) <= 0.7 * 200 + 1


def test_fewer_digits_where_they_do_not_fit(material):
    scans, photos = material
    crowded = dict(image_size=40, digit_size=(40, 40), digits=(4, 4), darkness=(0.3, 0.7))
    for seed in range(10):
        _, digits = md.draw_image(np.random.default_rng(seed), scans['train'], photos, **crowded)
        assert len(digits) == 1


def test_command_line_writes_then_does_nothing(tmp_path):
    out = tmp_path / 'new' / 'digits'
    arguments = [out, '--train', 4, '--val', 2, '--test', 1, '--image-size', 64, '--digits', 2, 2,
                 '--darkness', 0.5, 0.5, '--digit-size', 20, 24, '--seed', 3]
    first = run(*arguments)
    assert (first.returncode, first.stderr) == (0, '')
    assert 'train: 4 of 4 images' in first.stdout
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*')}
    # With --out this time: both ways name the same folder.
    second = run('--out', *arguments)
    assert (second.returncode, second.stderr) == (0, '')
    assert 'nothing to do' in second.stdout and 'images' not in second.stdout
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob('*')}
    assert annotations(out, 'val')['info']['arguments']['darkness'] == [0.5, 0.5]


def test_other_arguments_are_refused_unless_overwrite(tmp_path):
    md.make_digits(tmp_path, train=3, val=2, test=1)
    stranger = tmp_path / 'train' / 'notes.txt'
    stranger.write_text('mine')
    before = files(tmp_path)
    with pytest.raises(md.UsageError, match='seed 0 instead of 5.*--overwrite'):
        md.make_digits(tmp_path, train=2, val=2, test=1, seed=5)
    assert files(tmp_path) == before
    assert md.make_digits(tmp_path, train=2, val=2, test=1, seed=5, overwrite=True)
    assert annotations(tmp_path, 'train')['info']['arguments']['seed'] == 5
    # The third image of the old data set is deleted, other files stay.
    assert sorted(path.name for path in (tmp_path / 'train').iterdir()) == [
        '000001.png', '000002.png', 'notes.txt']


@pytest.mark.parametrize('content', ['not json', '[]', '{"info": {}, "images": []}',
                                     '{"info": {"arguments": 1}, "images": []}'])
def test_annotations_of_something_else_are_refused(tmp_path, content):
    path = tmp_path / 'annotations' / 'train.json'
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(md.UsageError, match='annotations/train.json .*--overwrite'):
        md.make_digits(tmp_path, train=1, val=1, test=1)
    assert path.read_text() == content


@pytest.mark.parametrize('lost', ['annotations/train.json', 'annotations/val.json',
                                  'train/000002.png'])
def test_incomplete_data_set_is_made_again(tmp_path, lost):
    md.make_digits(tmp_path, train=2, val=2, test=1)
    whole = files(tmp_path)
    (tmp_path / lost).unlink()
    assert md.make_digits(tmp_path, train=2, val=2, test=1)
    assert files(tmp_path) == whole


def test_interrupted_run_leaves_no_annotations(tmp_path):
    def interrupt(line):
        if line.startswith('val'):
            raise KeyboardInterrupt

    md.make_digits(tmp_path, train=2, val=2, test=1)
    with pytest.raises(KeyboardInterrupt):
        md.make_digits(tmp_path, train=2, val=3, test=1, overwrite=True, report=interrupt)
    assert not list((tmp_path / 'annotations').iterdir())
    assert md.make_digits(tmp_path, train=2, val=3, test=1)


@pytest.mark.parametrize('arguments, message', [
    (['--train', '-1'], '--train -1'),
    (['--val', '-5'], '--val -5'),
    (['--train', 'many'], 'invalid int'),
    (['--seed', '-1'], '--seed -1'),
    (['--digit-size', '24', '97'], '--digit-size 97'),
    (['--digit-size', '3', '24'], '--digit-size 3'),
    (['--digit-size', '44', '24'], '--digit-size: MIN 44 is greater than MAX 24'),
    (['--digits', '0', '2'], '--digits 0'),
    (['--darkness', '0.5', 'nan'], '--darkness nan'),
    (['--image-size', '1000'], '--image-size 1000'),
    (['--out', 'elsewhere'], 'not allowed with'),
    (['--masks', 'bits'], 'invalid choice'),
])
def test_bad_arguments_give_one_line_and_status_2(tmp_path, capsys, arguments, message):
    out = tmp_path / 'digits'
    with pytest.raises(SystemExit) as stopped:
        md.main([str(out), *arguments])
    stderr = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in stderr and stderr.count('\n') == 1
    assert not out.exists()


def test_process_ends_with_status_2(tmp_path):
    result = run(tmp_path, '--train', '-1')
    assert (result.returncode, result.stdout) == (2, '')
    assert result.stderr.startswith('make_digits.py: error: --train -1 ') and '999999' in result.stderr
    assert result.stderr.count('\n') == 1


def test_folder_that_cannot_be_written(tmp_path):
    file = tmp_path / 'file'
    file.write_text('mine')
    for out in (file / 'digits', file):
        with pytest.raises(md.UsageError, match=f'cannot be written to {out}: '):
            md.make_digits(out, train=1, val=1, test=1)
    assert file.read_text() == 'mine'


def test_missing_scikit_learn(tmp_path, monkeypatch):
    # None in sys.modules makes an import fail as if the package were not installed.
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(md.UsageError, match='pip install scikit-learn'):
        md.make_digits(tmp_path / 'digits', train=1, val=1, test=1)
    assert not (tmp_path / 'digits').exists()


def test_a_file_of_test_images_by_somebody_else_stays(tmp_path):
    """Without files of training and validation, the folder looks like an unfinished data set."""
    (tmp_path / 'annotations').mkdir()
    path = tmp_path / 'annotations/test.json'
    path.write_text('{"mine": 1}')
    with pytest.raises(md.UsageError, match='test.json.*--overwrite'):
        md.make_digits(tmp_path, **dict(COUNTS, test=2))
    assert path.read_text() == '{"mine": 1}' and not (tmp_path / 'train').exists()
