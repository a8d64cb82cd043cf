"""demo/onnx_detect.py, in this process, with one small file: its results and its refusals."""

import importlib.util
import json
import os
import sys

import cv2
import pytest
from deqdet import export
from detecting import picture
from exported import CONFIG, detector, parts
from mmengine.config import Config
from small_model import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('export')]  # one process records

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')


@pytest.fixture(scope='module')
def onnx_file(tmp_path_factory):
    """A detector, exported with at most one refinement."""
    model, cfg = detector(), Config.fromstring(CONFIG, '.py')
    metadata = export.describe(model, cfg, classes=[str(digit) for digit in range(10)], steps=0)
    path = tmp_path_factory.mktemp('onnx') / 'small.onnx'
    path.write_bytes(export.join_parts(parts(), steps=0, metadata=metadata).SerializeToString())
    return path


@pytest.fixture
def files(tmp_path, onnx_file, monkeypatch):
    """The file, and images of two sizes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'small.onnx').write_bytes(onnx_file.read_bytes())
    (tmp_path / 'images').mkdir()
    for name, shape in ('a', (90, 200)), ('b', (160, 120)):
        cv2.imwrite(f'images/{name}.png', picture(0, shape))
    return tmp_path


@pytest.fixture
def example(files, monkeypatch, capsys):
    """Run the example; returns status and stderr."""
    spec = importlib.util.spec_from_file_location('example', ROOT / 'demo' / 'onnx_detect.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def example(*words, **changes):
        monkeypatch.setattr(sys, 'argv', ['onnx_detect.py', 'small.onnx', '--threads', '1', *map(str, words)])
        for name, value in changes.items():
            monkeypatch.setattr(module, name, value)
        try:
            module.main()
        except SystemExit as exit:
            return exit.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    example.module = module
    return example


def test_no_picture_of_the_user_is_overwritten(example, files):
    before = (files / 'images' / 'a.png').read_bytes()
    (files / 'links').mkdir()
    (files / 'links' / 'a.png').symlink_to(files / 'images' / 'a.png')
    (files / 'notes.json').write_text('mine')
    for words, message in [
            (['images/a.png', '--out', 'images'], 'images/a.png is an input'),
            (['images/a.png', '--out', 'images', '--overwrite'], 'images/a.png is an input'),
            (['images/a.png', '--out', 'links', '--overwrite'], 'links/a.png is an input'),
            (['images/b.png', 'images/a.png', '--json', 'images/a.png', '--overwrite'], 'is an input'),
            (['images/b.png', '--json', 'small.onnx', '--overwrite'], 'small.onnx is an input'),
            (['links/a.png', '--out', 'images'], 'images/a.png is an input'),
            (['images/b.png', '--out', 'images/a.png'], 'folder images/a.png '),
            (['images/b.png', '--json', 'notes.json'], 'notes.json already exists'),
            (['images/b.png', '--json', 'images', '--overwrite'], 'images already exists'),
            (['images/b.png', '--out', 'new', '--json', 'new/b.png'], 'new/b.png ')]:
        status, error = example(*words)
        assert status == 2 and message in error and error.count('\n') == 1
    os.link(files / 'images' / 'a.png', files / 'same.png')
    assert example('images/a.png', '--json', 'same.png', '--overwrite')[0] == 0
    assert (files / 'images' / 'a.png').read_bytes() == before
    assert (files / 'notes.json').read_text() == 'mine'


def test_each_image_gets_a_picture_of_its_own(example, files):
    (files / 'other').mkdir()
    content = (files / 'images' / 'b.png').read_bytes()
    for name in 'other/a.png', 'other/A.PNG', 'other/a.jfif', 'other/a-2.png':
        (files / name).write_bytes(content)
    words = ['images/a.png', 'other/a.png', 'other/A.PNG', 'other/a.jfif', 'other/a-2.png', '--out', 'drawn']
    assert example(*words)[0] == 0
    assert sorted(path.name for path in (files / 'drawn').iterdir()) == [
        'A-3.PNG', 'a-2-2.png', 'a-2.png', 'a.jfif.png', 'a.png']
    assert cv2.imread('drawn/a.png').shape == (90, 200, 3) and cv2.imread('drawn/a-2.png').shape[0] == 160
    assert 'drawn/a.png already exists' in example(*words)[1]
    assert example(*words, '--overwrite')[0] == 0


def test_a_broken_file_stops_nothing_and_what_is_done_is_kept(example, files):
    (files / 'text.png').write_text('text')
    (files / 'empty.png').touch()
    whole = cv2.imencode('.jpg', picture())[1].tobytes()
    (files / 'cut.jpg').write_bytes(whole[:len(whole) * 3 // 4])
    names = ['gone.png', 'text.png', 'empty.png', 'cut.jpg', 'images']
    status, error = example(*names, 'images/a.png', '--json', 'found.json')
    assert status == 3 and error.splitlines()[-6:] == [
        '5 could not be read:', '  gone.png: No such file or directory',
        '  text.png: not an image that OpenCV can read', '  empty.png: empty file', '  cut.jpg: truncated',
        '  images: not a regular file']
    assert [each['image'] for each in json.load(open('found.json'))] == ['images/a.png']
    read = example.module.read

    def interrupted(path):
        if path.endswith('b.png'):
            raise KeyboardInterrupt
        return read(path)

    status, error = example('images/a.png', 'images/b.png', '--json', 'part.json', read=interrupted)
    assert status == 130 and 'stopped by Ctrl-C' in error
    assert json.load(open('part.json')) == json.load(open('found.json'))


def test_odd_images_and_names(example, files):
    long = 'x' * 251 + '.png'
    cv2.imwrite('images/thin.png', picture(0, (1, 4000)))
    (files / 'images' / 'a.png').rename(files / 'images' / long)
    (files / 'drawn').mkdir()
    (files / 'drawn' / 'b.png.unfinished').write_text('mine')
    names = ['images/thin.png', f'images/{long}', 'images/b.png']
    assert example(*names, '--out', 'drawn', '--json', 'found.json')[0] == 0
    assert [each['image'] for each in json.load(open('found.json'))] == names
    assert sorted(os.listdir('drawn')) == sorted(['b.png', 'b.png.unfinished', 'thin.png', long])
    assert (files / 'drawn' / 'b.png.unfinished').read_text() == 'mine'


def test_one_line_says_what_is_wrong(example, files):
    line = example('images/a.png', '--steps', '2')[1]
    assert '--steps 2' in line and '--steps given' in line
    (files / 'small.onnx').write_bytes(b'none')
    status, error = example('images/a.png')
    assert status == 2 and error.startswith('error: small.onnx cannot be opened') and error.count('\n') == 1
