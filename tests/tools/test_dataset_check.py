"""tools/dataset/check.py: exit status, report and pictures. train.py stops if the data cannot work."""

import json

import numpy as np
import pytest
from data.doctor.pets import Pets, write_pets
from deqdet.data.checks import check_files
from PIL import Image
from small_model import ROOT


@pytest.fixture
def pets(tmp_path):
    return Pets(write_pets(tmp_path / 'pets'))


@pytest.fixture
def check(call, tmp_path):
    """Call the tool; returns exit status and report."""

    def check(config, *words):
        with pytest.raises(SystemExit) as caught:
            call('dataset/check.py', config, '--workers', 1, '--out', tmp_path / 'report', *words)
        return caught.value.code, json.loads((tmp_path / 'report' / 'check.json').read_text())

    return check


@pytest.fixture
def digits(call, tmp_path):
    """A folder with a small set of the demo's digits, at the path of the demo's config."""
    call('dataset/make_digits.py', '--train', 30, '--val', 10, '--test', 10)
    return ROOT / 'configs' / 'deqdet' / 'deqdet_digits.py'


def test_the_demo_has_no_fault(check, digits, tmp_path, capsys):
    status, report = check(digits, '--strict', '--samples', 6)
    assert (status, report['errors'], report['warnings'], report['findings']) == (0, 0, 0, [])
    assert report['images_read'] == 50 and report['queries'] == 8
    assert report['splits']['train']['images'] == 30
    assert list(report['splits']['val']['objects_per_class']) == list('0123456789')
    names = ['objects_per_class', 'box_sizes', 'objects_per_image', 'image_sizes', 'samples']
    assert report['figures'] == [f'{name}.png' for name in names]
    for name in names:
        with Image.open(tmp_path / 'report' / f'{name}.png') as picture:
            assert min(picture.size) > 300 and np.asarray(picture.convert('L')).std() > 5
    text = (tmp_path / 'report' / 'check.md').read_text()
    assert 'no errors and no warnings' in text and '![samples](samples.png)' in text
    assert 'no errors and no warnings' in capsys.readouterr().out


def test_faults_are_lines_and_a_status(check, pets, capsys, tmp_path):
    pets.box(4)['bbox'][2] = 0
    pets.write()
    config = pets.root / 'config.py'
    status, report = check(config, '--samples', 0)
    assert (status, report['status'], report['errors'], report['warnings']) == (0, 0, 0, 1)
    finding = report['findings'][0]
    assert (finding['check'], finding['grade'], finding['count']) == ('degenerate-box', 'warning', 1)
    assert finding['examples'] == ['annotation 19 of image 13, 2.png']
    assert f"warning [degenerate-box] {finding['message']}" in capsys.readouterr().out.splitlines()
    assert check(config, '--quick', '--strict')[0] == 1
    pets.image(4).unlink()
    status, report = check(config, '--quick')
    assert (status, report['errors'], report['images_read']) == (1, 1, 0)
    assert 'samples.png' not in report['figures']
    assert '**missing-images**' in (tmp_path / 'report' / 'check.md').read_text()


def test_only_some_splits(check, pets):
    pets.train = None
    pets.write()
    status, report = check(pets.root / 'config.py', '--splits', 'val', '--limit', 2)
    assert status == 0 and list(report['splits']) == ['val'] and report['images_read'] == 2


def test_a_config_without_data(refused, tmp_path):
    (tmp_path / 'config.py').write_text('model = dict()')
    line = refused('dataset/check.py', tmp_path / 'config.py', '--splits', 'train', 'val')
    assert 'train_dataloader or val_dataloader' in line and line.endswith(' [bad-config]')


def test_a_report_that_cannot_be_written(refused, pets, tmp_path):
    (tmp_path / 'file').write_text('')
    line = refused('dataset/check.py', pets.root / 'config.py', '--out', tmp_path / 'file' / 'report')
    assert 'file/report' in line and '--out' in line and line.endswith(' [output-failed]')


def test_training_stops_at_what_cannot_work(refused, pets):
    for annotation in pets.train['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]
    pets.write()
    line = refused('train.py', pets.root / 'config.py')
    assert 'train_dataloader.dataset' in line and '[x1, y1, x2, y2]' in line and '[bad-annotations]' in line


def test_training_goes_on_with_what_is_suspicious(pets, monkeypatch):
    lines = []
    monkeypatch.setattr('deqdet.data.checks.print_log', lambda line, **kwargs: lines.append(line))
    pets.train['annotations'].append(dict(pets.box(4), id=999))
    pets.write()
    check_files(pets.cfg, ('train', 'val'))
    line, = lines
    assert '(annotation-twice)' in line and 'tools/dataset/check.py CONFIG' in line
