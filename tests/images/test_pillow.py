"""Pillow reads large photographs and images with extra bytes at the end, without errors."""

import io

import cv2
import numpy as np
import pytest
from deqdet.app.solving import _check_size
from deqdet.data.doctor.scan import read_image_file
from deqdet.images.pillow import read_with_alpha
from deqdet.inference.reading import BrokenFileError, ImageReader
from detecting import picture
from PIL import Image
from refusals import refused

LOADING = dict(color_type='color', imdecode_backend='cv2', backend_args=None)


def encoded(kind, size=(96, 96), **options):
    file = io.BytesIO()
    Image.fromarray(picture(0, size[::-1])).save(file, kind, **options)
    return file.getvalue()


def reason_of(path):
    with pytest.raises(BrokenFileError) as caught:
        read(path)
    return caught.value.reason


def read(path):
    return ImageReader().load(str(path))['img']


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('limit', [4000, 8000])  # too large; large enough for a warning
@pytest.mark.parametrize('behind', [bytes(64), b'\0\0\0\x18ftypmp42' + bytes(5000)], ids=['bytes', 'motion'])
def test_a_large_photograph_with_bytes_behind_its_end_is_read(tmp_path, monkeypatch, limit, behind):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded('JPEG', exif=exif)
    path = tmp_path / 'a.jpg'
    path.write_bytes(content + behind)
    found = read_image_file(str(path), LOADING)
    assert found.fault == '' and found.size == (96, 96) and found.orientation == 6
    assert read(path).shape == (96, 96, 3)
    _check_size(str(path))  # the page's check
    path.write_bytes(content[:-800] + bytes(64))
    assert 'truncated' in read_image_file(str(path), LOADING).fault
    path.write_bytes(content[:-800])
    assert 'truncated' in reason_of(path)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_several_photographs_in_one_file(tmp_path):
    path = tmp_path / 'a.mpo'
    path.write_bytes(encoded('MPO', save_all=True, append_images=[Image.fromarray(picture(1))]) + bytes(99))
    assert read_image_file(str(path), LOADING).fault == '' and read(path).shape == (96, 96, 3)


def test_more_pixels_than_opencv_reads(tmp_path, monkeypatch):
    path = tmp_path / 'a.ppm'
    path.write_bytes(b'P6 40000 40000 255\n' + bytes(99))
    assert '40000 x 40000 pixels' in reason_of(path)
    assert reason_of(path) == read_image_file(str(path), LOADING).fault
    assert 'OPENCV_IO_MAX_IMAGE_PIXELS' in reason_of(path)
    monkeypatch.setenv('OPENCV_IO_MAX_IMAGE_PIXELS', '1000')
    path.write_bytes(encoded('PNG'))
    with refused('bad-image', path, '40 million pixels'):
        _check_size(str(path))


@pytest.mark.parametrize('kind', ['TGA', 'PCX', 'SGI', 'DDS', 'QOI', 'JPEG2000', 'AVIF', 'TIFF', 'GIF'])
def test_what_opencv_or_pillow_reads_is_read_whatever_its_name(tmp_path, kind):
    if kind not in Image.SAVE:
        Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f'this Pillow writes no {kind}')
    path = tmp_path / 'a.jpg'
    path.write_bytes(encoded(kind, (64, 48)))
    found = read(path)
    assert found.shape == (48, 64, 3) and found.dtype == np.uint8
    if kind not in ('AVIF', 'JPEG2000', 'GIF'):
        assert (found == picture(0, (48, 64))[..., ::-1]).all()


@pytest.mark.parametrize('name, content, reason', [
    ('a.jpg', b'text\n' * 9, 'no image'), ('a', b'', 'empty file'),
    ('a.heic', b'\0\0\0\x18ftypheic' + bytes(90), 'pip install pillow-heif'),
    ('a.dng', None, 'JPEG or PNG'), ('a.SVG', b'<svg/>', '.svg'), ('a.pdf', b'%PDF-1.7', '.pdf'),
])
def test_what_is_not_read_is_named(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(encoded('TIFF') if content is None else content)  # a raw file looks like a TIFF
    assert reason in reason_of(path)


def test_what_only_pillow_reads_is_an_error_of_a_training(tmp_path):
    path = tmp_path / 'a.tga'
    path.write_bytes(encoded('TGA'))
    assert "set imdecode_backend='pillow'" in read_image_file(str(path), LOADING).fault
    assert read_image_file(str(path), dict(LOADING, imdecode_backend='pillow')).fault == ''
    assert cv2.imread(str(path)) is None


def test_links_and_folders_that_lead_nowhere(tmp_path):
    (tmp_path / 'a.png').symlink_to(tmp_path / 'gone.png')
    assert reason_of(tmp_path / 'a.png') == f'broken link to {tmp_path}/gone.png'
    assert 'regular file' in reason_of(tmp_path)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P', 'RGB', 'L'])
def test_transparency_of_all_kinds(mode):
    """Of a red or grey picture, the left half is transparent: by alpha, or by one colour of the file."""
    file, half = io.BytesIO(), np.zeros((4, 6), np.uint8)
    half[:, 3:] = 255
    if mode in ('RGBA', 'LA'):
        image = Image.new(mode, (6, 4), (200, 10, 10) if mode == 'RGBA' else 200)
        image.putalpha(Image.fromarray(half))
        image.save(file, 'PNG')
    else:
        image = Image.new('L', (6, 4), 200)
        image.paste(7, (0, 0, 3, 4))
        image = image.convert(mode)
        image.save(file, 'PNG', transparency={'P': 7, 'RGB': (7, 7, 7), 'L': 7}[mode])
    found = read_with_alpha(file.getvalue())
    assert found.shape == (4, 6, 4) and (found[..., 3] == half).all()
    assert found[0, 5, :3].tolist() == ([10, 10, 200] if mode == 'RGBA' else [200] * 3)


def test_a_turned_cutout():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new('RGBA', (6, 4)).save(file, 'PNG', exif=exif)
    assert read_with_alpha(file.getvalue()).shape == (6, 4, 4)
