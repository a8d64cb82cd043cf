"""Missing image files: the message gives the reason and the name to write."""

import json
import os

import pytest
from data.tiny_coco import write_config, write_dataset
from deqdet import UsageError
from deqdet.data.checks import check_files
from mmengine.config import Config


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / 'data')


@pytest.fixture
def cfg(tmp_path, root):
    return Config.fromfile(write_config(tmp_path / 'config.py', root))


def change(root, **values):
    """Set values in the first image."""
    path = root / 'annotations.json'
    data = json.loads(path.read_text())
    data['images'][0].update(values)
    path.write_text(json.dumps(data))


def refusal(cfg):
    with pytest.raises(UsageError) as caught:
        check_files(cfg, ('train', 'val'))
    return str(caught.value)


@pytest.mark.parametrize('file, name, why', [
    ('sub/0.png', 'sub\\0.png', 'has backslashes, as Windows writes paths'),
    ('0.png', 'C:\\pets\\images\\0.png', 'has backslashes, as Windows writes paths'),
    ('my photo.png', 'my%20photo.png', 'is encoded as in an address (%20 is a space)'),
    ('sub/a b.png', 'sub\\a%20b.png', 'has backslashes, as Windows writes paths and is encoded'),
    ('Cat.png', 'cat.png', 'has capital and small letters where the file has others'),
    ('Sub/0.png', 'sub/0.png', 'has capital and small letters where the file has others'),
    ('caf\u00e9.png', 'cafe\u0301.png', 'has letters with accents in another form of Unicode'),
    ('cafe\u0301.png', 'caf\u00e9.png', 'has letters with accents in another form of Unicode'),
    ('0.png', ' 0.png', 'has spaces at an end'),
    ('0.png', '0.png ', 'has spaces at an end'),
    ('0.png', 'images/0.png', 'begins with folders (images) that are not below the image folder'),
    ('0.png', '/home/other/pets/images/0.png', 'begins with folders (home/other/pets/images)'),
    ('0.png', 'file:///home/other/0.png', 'is an address'),
    ('a b.png', 'https://example.com/set/a%20b.png', 'is an address and is encoded')])
def test_another_form_of_the_name_is_there(cfg, root, file, name, why):
    (root / 'images' / file).parent.mkdir(exist_ok=True)
    os.rename(root / 'images' / '0.png', root / 'images' / file)
    change(root, file_name=name)
    line = refusal(cfg)
    assert f'{name!r} {why}' in line and f'the image is there as {file!r}, so write that' in line


def test_another_ending(cfg, root):
    os.rename(root / 'images' / '0.png', root / 'images' / '0.PNG')
    assert 'instead of 0.png there is 0.PNG' in refusal(cfg)


@pytest.mark.parametrize('name, why', [('a\\b.png', 'has backslashes'), ('a%20b.png', 'may be encoded')])
def test_a_suspect_name_without_a_file(cfg, root, name, why):
    change(root, file_name=name)
    assert f'{name!r} {why}' in refusal(cfg)


def test_nothing_to_guess(cfg, root):
    change(root, file_name='gone.png')
    assert 'gone.png); looked for from' in (line := refusal(cfg)) and 'file_name (' not in line


@pytest.mark.parametrize('size', [dict(width=0, height=0), dict(height=-64)])
def test_images_without_a_size(cfg, root, size):
    change(root, **size)
    line = refusal(cfg)
    assert '1 of 4 images have a width or height of zero or less in the file (0.png: ' in line
    assert 'drops all their boxes' in line
    assert line.endswith('write width and height of the image files in pixels')


@pytest.mark.parametrize('size', [dict(width=None), dict(width='64')])
def test_sizes_that_are_no_numbers(cfg, root, size):
    change(root, **size)
    assert 'size of the image file in pixels' in refusal(cfg)
