"""Images of more than 8 bits: a warning describes their values, and a setting scales them."""

import cv2
import numpy as np
import pytest
from deqdet.compat.image_values import may_be_deep, values_in_use
from mmdet.registry import TRANSFORMS
from PIL import Image
from refusals import refused


def ramp(low, high, dtype, channels=1):
    picture = np.linspace(low, high, 64 * 48).reshape(48, 64).astype(dtype)
    return picture if channels == 1 else np.stack([picture] * channels, -1)


#: File, content, range, and whether 8 bits lose the contrast without the setting.
DEEP = [
    ('10.tif', ramp(0, 1023, np.uint16), (0, 1023), True),
    ('10.png', ramp(0, 1023, np.uint16), (0, 1023), True),
    ('12.png', ramp(0, 4095, np.uint16, 3), (0, 4095), True),
    ('14.png', ramp(0, 16383, np.uint16, 4), (0, 16383), True),
    ('14.tif', ramp(0, 16383, np.uint16, 3), (0, 16383), True),
    ('16.png', ramp(0, 65535, np.uint16), (0, 65535), False),
    ('16.tif', ramp(0, 65535, np.uint16, 3), (0, 65535), False),
    ('thermal.png', ramp(21000, 23000, np.uint16), (21000, 23000), True),
    ('thermal.tif', ramp(21000, 23000, np.uint16, 3), (21000, 23000), True),
    ('bright.tif', ramp(30000, 60000, np.uint16), (30000, 60000), False),
    ('signed.tif', ramp(-500, 500, np.int16), (-500, 500), True),
    ('floats.tif', ramp(0, 1, np.float32), (0, 1), True),
    ('large floats.tif', ramp(0, 65535, np.float32), (0, 65535), True),
    ('doubles.tif', ramp(-1, 1, np.float64), (-1, 1), True),
    ('32.tif', ramp(0, 10**6, np.int32), (0, 10**6), True),
    ('10.pgm', ramp(0, 1023, np.uint16), (0, 1023), True),
    ('16.ppm', ramp(0, 65535, np.uint16, 3), (0, 65535), False),
    ('10.ppm', ramp(0, 1023, np.uint16, 3), (0, 1023), True),
    ('10.jp2', ramp(0, 1023, np.uint16), (0, 1023), True),
    ('floats.pfm', ramp(0, 1, np.float32, 3), (0, 1), True),
    ('grey floats.pfm', ramp(0, 200, np.float32), (0, 200), True)]


def load(path, **settings):
    step = TRANSFORMS.build(dict(type='LoadImageFromFile', **settings))
    return step(dict(img_path=str(path)))


@pytest.mark.parametrize('name, picture, value_range, lost', DEEP, ids=[name for name, *_ in DEEP])
def test_the_range_becomes_8_bits(tmp_path, name, picture, value_range, lost):
    path = tmp_path / name
    cv2.imwrite(str(path), picture)
    values = values_in_use(path.read_bytes())
    assert values.are_lost == lost
    low, high = (f'{value:.6g}' for value in value_range)
    assert f'value_range=({low}, {high})' in values.setting
    found = load(path, value_range=value_range)
    assert found['img'].dtype == np.uint8 and found['img'].shape == (48, 64, 3)
    assert found['ori_shape'] == found['img_shape'] == (48, 64)
    # Expected values: share of the range, times 255.
    plain = picture.astype(float) if picture.ndim == 2 else picture[..., 0].astype(float)
    expected = np.rint(255 * (plain - value_range[0]) / (value_range[1] - value_range[0]))
    assert all((found['img'][..., channel] == expected).all() for channel in range(3))


@pytest.mark.parametrize('header, deep', [
    (b'P5 8 6 255\n', False), (b'P5\n# made by\n# a camera\n8 6\n1023\n', True),
    (b'P2\n8 6\n#\n65535\n', True), (b'P6\n#' + 80 * b'-', True), (b'P7\nWIDTH 8\n', True)])
def test_the_highest_value_of_a_pgm_file(header, deep):
    assert may_be_deep(header + bytes(96)) == deep


def test_an_hdr_image_is_scaled_from_0_to_1(tmp_path):
    path = tmp_path / 'a.hdr'
    for high, lost in (1, False), (40, True):
        cv2.imwrite(str(path), ramp(0, high, np.float32, 3))
        values = values_in_use(path.read_bytes())
        assert (values is not None) == lost
    image = load(path, value_range=(0, 40))['img']
    assert image.max() == 255 and len(np.unique(image)) > 200


def test_bits_are_named(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.tif'), ramp(0, 1022, np.uint16))
    assert values_in_use((tmp_path / 'a.tif').read_bytes()).words == (
        'values that use the lowest 10 of 16 bits')


def test_values_beyond_the_range_are_cut_off(tmp_path):
    picture = np.array([[-np.inf, -1, 0, 0.5, 1, 7, np.inf, np.nan]], np.float32)
    cv2.imwrite(str(tmp_path / 'a.tif'), picture)
    assert load(tmp_path / 'a.tif', value_range=(0, 1))['img'][0, :, 0].tolist() == [
        0, 0, 0, 128, 255, 255, 255, 0]


@pytest.mark.parametrize('settings', [{}, dict(color_type='grayscale'), dict(to_float32=True)])
def test_images_of_8_bits_stay_as_they_are(tmp_path, settings):
    noise = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, kwargs in (('a.png', {}), ('a.jpg', dict(exif=exif)), ('a.tif', {}), ('a.ppm', {})):
        Image.fromarray(noise).save(tmp_path / name, **kwargs)
        plain, ranged = (load(tmp_path / name, **settings, **more)['img']
                         for more in ({}, dict(value_range=(0, 9))))
        assert plain.dtype == ranged.dtype and np.array_equal(plain, ranged)
        assert values_in_use((tmp_path / name).read_bytes()) is None


@pytest.mark.parametrize('wrong', [5, (1, 1), (3, 2), ('a', 'b'), (0, float('nan')), (0, 1, 2)])
def test_no_range(wrong):
    with refused('bad-setting', f'value_range={wrong!r}', 'LoadImageFromFile'):
        TRANSFORMS.build(dict(type='LoadImageFromFile', value_range=wrong))
