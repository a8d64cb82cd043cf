"""Image names must stay below the data folder, since an annotation file may come from anybody."""

import json
import os
import pickle

import cv2
import numpy as np
import pytest
from data.tiny_coco import NO_PRETRAINED, write_config, write_dataset
from deqdet.data.checks import check_files
from deqdet.data.doctor import examine
from malicious import System
from mmengine.config import Config
from refusals import refused


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / 'data' / 'tiny')


@pytest.fixture
def cfg(tmp_path, root):
    return Config.fromfile(write_config(tmp_path / 'config.py', root))


@pytest.fixture
def secret(root):
    """An image beside the data set."""
    path = root.parent / 'secret.png'
    cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    return path


def name(root, *names):
    """Give the first images other names."""
    path = root / 'annotations.json'
    data = json.loads(path.read_text())
    for image, other in zip(data['images'], names):
        image['file_name'] = other
    path.write_text(json.dumps(data))


def refusal(cfg, code='bad-annotations'):
    with refused(code) as caught:
        check_files(cfg, ('train', 'val', 'test'))
    return caught.value.message


@pytest.mark.parametrize('outside', [
    '../../secret.png', '../../../data/secret.png', '../images/../../secret.png', '../../tiny2/0.png',
    '../..', '/etc/hostname', '/', '~/../0.png/../../..'])
def test_names_that_leave_the_data(cfg, root, secret, outside):
    name(root, outside, outside)
    line = refusal(cfg)
    assert f'2 image names are outside {root} ({outside}, {outside})' in line
    assert line.startswith('train_dataloader.dataset, ') and "data_prefix=dict(img='')" in line


@pytest.mark.parametrize('odd, shown', [
    ('0.png\0.txt', r'0.png\\x00.txt'), ('0\n.png', r'0\\n.png'), ('\x1b[2J.png', r'\\x1b[2J.png'),
    ('', '1 image names'),
    ('\ud800.png', r'\\ud800.png'), ('a\u2028b.png', r'a\\u2028b.png')])
def test_names_that_are_none(cfg, root, odd, shown):
    name(root, odd)
    line = refusal(cfg)
    assert '1 image names are not file names' in line and shown.replace('\\\\', '\\') in line
    assert line.isprintable()


@pytest.mark.parametrize('address', [
    'https://example.com/0.png', 's3://bucket/0.png', 'file:///etc/hostname'])
def test_addresses(cfg, root, address):
    name(root, address)
    assert '1 image names are URLs' in (line := refusal(cfg)) and f'({address})' in line


def test_names_inside_in_any_form(cfg, root):
    """Names with another folder of the data set, absolute, in Unicode, or with a subfolder."""
    os.rename(root / 'images' / '0.png', root / '0.png')
    os.rename(root / 'images' / '2.png', root / 'images' / '猫 ä.png')
    (root / 'images' / 'more').mkdir()
    os.rename(root / 'images' / '3.png', root / 'images' / 'more' / '..3.png')
    name(root, '../0.png', str(root / 'images' / '1.png'), '猫 ä.png', './more//..3.png')
    check_files(cfg, ('train', 'val', 'test'))


def test_links_may_lead_anywhere(cfg, root, secret):
    """A link to a folder on another disk, or links to each image."""
    os.rename(root / 'images', root.parent / 'other disk')
    os.symlink(root.parent / 'other disk', root / 'images')
    os.symlink(secret, root / 'images' / 'linked.png')
    name(root, 'linked.png')
    check_files(cfg, ('train', 'val', 'test'))


def test_a_prefix_elsewhere_is_the_root(cfg, root, secret):
    """An absolute ``data_prefix`` is the image folder; names must stay in it."""
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_prefix = dict(img=str(root.parent))
    name(root, *(f'tiny/images/{number}.png' for number in range(4)))
    check_files(cfg, ('train', 'val', 'test'))
    name(root, '../data/secret.png')
    check_files(cfg, ('train', 'val', 'test'))
    name(root, '../secret.png')
    assert f'outside {root.parent} (../secret.png)' in refusal(cfg)


def test_who_names_no_folder_trusts_the_file(cfg, root, secret):
    """``data_root=''`` and ``data_prefix=dict(img='')``: names may be anywhere."""
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(
            data_root='', data_prefix=dict(img=''), ann_file=str(root / 'annotations.json'))
    name(root, str(secret), *(str(root / 'images' / f'{number}.png') for number in (1, 2, 3)))
    check_files(cfg, ('train', 'val', 'test'))
    name(root, str(secret) + '\n')
    assert 'not file names' in refusal(cfg)


def test_the_tools_and_the_doctor(call, refused, cfg, root, tmp_path, capsys):
    name(root, '../../secret.png')
    assert '1 image names are outside' in refused('train.py', 'config.py', '--cfg-options', NO_PRETRAINED)
    with pytest.raises(SystemExit) as caught:
        call('dataset/check.py', 'config.py', '--quick')
    assert caught.value.code == 1
    report = json.loads((tmp_path / 'work_dirs' / 'config' / 'check' / 'check.json').read_text())
    found = [finding['check'] for finding in report['findings']]
    assert 'image-outside' in found and 'left-out' in found and report['images_read'] == 0


@pytest.mark.parametrize('key', ['ann_file', 'proposal_file'])
def test_data_in_pickles(cfg, root, tmp_path, key):
    """Pickles are not read, and so not run, without trust; mmengine unpickles files with these endings."""
    (root / 'data.pkl').write_bytes(pickle.dumps(System(tmp_path / 'made')))
    cfg.train_dataloader.dataset[key] = 'data.pkl'
    line = refusal(cfg, 'untrusted-checkpoint')
    assert f'train_dataloader.dataset.{key}: {root}/data.pkl is a pickle file' in line
    assert '--trust-checkpoint' in line and not (tmp_path / 'made').exists()
    result = examine(cfg, samples=0)
    assert 'pickle' in [finding.check for finding in result.findings] and not (tmp_path / 'made').exists()
    cfg.train_dataloader.dataset.pop(key)
    check_files(cfg, ('val', ))
