"""Missing image files: the message gives the reason and the name to write."""

import json
import os

import pytest
from data.tiny_coco import write_config, write_dataset
from deqdet.data.checks import check_files
from mmengine.config import Config
from refusals import refused


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


def refusal(cfg, code='missing-file'):
    with refused(code) as caught:
        check_files(cfg, ('train', 'val'))
    return caught.value.message


@pytest.mark.parametrize('file, name, why', [
    ('sub/0.png', 'sub\\0.png', 'has backslashes'),
    ('0.png', 'C:\\pets\\images\\0.png', 'has backslashes'),
    ('my photo.png', 'my%20photo.png', 'is encoded'),
    ('sub/a b.png', 'sub\\a%20b.png', 'has backslashes, as in Windows paths and is encoded'),
    ('Cat.png', 'cat.png', 'differs from the file in upper and lower case'),
    ('Sub/0.png', 'sub/0.png', 'differs from the file in upper and lower case'),
    ('caf\u00e9.png', 'cafe\u0301.png', 'has letters with accents'),
    ('cafe\u0301.png', 'caf\u00e9.png', 'has letters with accents'),
    ('0.png', ' 0.png', 'has spaces'),
    ('0.png', '0.png ', 'has spaces'),
    ('0.png', 'images/0.png', 'starts with folders (images)'),
    ('0.png', '/home/other/pets/images/0.png', 'starts with folders (home/other/pets/images)'),
    ('0.png', 'file:///home/other/0.png', 'is a URL'),
    ('a b.png', 'https://example.com/set/a%20b.png', 'is a URL and is encoded')])
def test_another_form_of_the_name_is_there(cfg, root, file, name, why):
    (root / 'images' / file).parent.mkdir(exist_ok=True)
    os.rename(root / 'images' / '0.png', root / 'images' / file)
    change(root, file_name=name)
    # Names outside the data are refused before any image is looked up.
    line = refusal(cfg, 'bad-annotations' if name.startswith(('/', 'file:', 'https:')) else 'missing-file')
    assert f'{name!r} {why}' in line and f' {file!r}, so write this as file_name' in line


def test_another_ending(cfg, root):
    os.rename(root / 'images' / '0.png', root / 'images' / '0.PNG')
    assert '0.PNG exists instead of 0.png' in refusal(cfg)


@pytest.mark.parametrize('name, why', [('a\\b.png', 'has backslashes'), ('a%20b.png', 'may be encoded')])
def test_a_suspect_name_without_a_file(cfg, root, name, why):
    change(root, file_name=name)
    assert f'{name!r} {why}' in refusal(cfg)


def test_nothing_to_guess(cfg, root):
    change(root, file_name='gone.png')
    assert 'gone.png)' in (line := refusal(cfg)) and 'exists instead' not in line and "'gone.png'" not in line


@pytest.mark.parametrize('size', [dict(width=0, height=0), dict(height=-64)])
def test_images_without_a_size(cfg, root, size):
    change(root, **size)
    line = refusal(cfg, 'bad-annotations')
    assert all(word in line for word in ('1 of 4 images', '(0.png: ', 'width', 'height', 'pixels'))


@pytest.mark.parametrize('size', [dict(width=None), dict(width='64')])
def test_sizes_that_are_no_numbers(cfg, root, size):
    change(root, **size)
    assert 'size of the image file in pixels' in refusal(cfg, 'bad-annotations')
