"""Detection reads images of more than 8 bits: a warning describes their values, and a setting scales them."""

import warnings

import cv2
import numpy as np
import pytest
from deqdet.inference.reading import ImageReader
from mmdet.registry import TRANSFORMS
from PIL import Image


def ramp(low, high, dtype):
    return np.linspace(low, high, 64 * 48).reshape(48, 64).astype(dtype)


def write(path, values):
    if path.suffix == '.im':
        Image.fromarray(values).save(path)
    else:
        cv2.imwrite(str(path), values)


def read(path, **settings):
    """The image, and the warnings."""
    reader = ImageReader(TRANSFORMS.build(dict(type='mmdet.InferencerLoader', **settings)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        image = reader.load(str(path))['img']
    return image, [str(each.message) for each in caught if each.category is UserWarning]


# OpenCV decodes the first four in colour. Pillow decodes the others.
@pytest.mark.parametrize('name, values, words', [
    ('a.pgm', ramp(0, 1023, np.uint16), 'the lowest 10 of 16 bits'),
    ('a.png', ramp(21000, 23000, np.uint16), 'uint16 values from 21000 to 23000'),
    ('a.hdr', np.stack([ramp(0, 8, np.float32)] * 3, -1), 'float32 values from 0 to 8'),
    ('a.pfm', np.stack([ramp(0, 1, np.float32)] * 3, -1), 'float32 values from 0 to 1'),
    ('a.tif', ramp(0, 1, np.float32), 'float32 values from 0 to 1'),
    ('b.tif', ramp(-500, 60000, np.int32), 'int32 values from -500 to 60000'),
    ('a.im', ramp(0, 1023, np.uint16), 'the lowest 10 of 16 bits')])
def test_lost_values_are_named_and_a_range_keeps_them(tmp_path, name, values, words):
    write(tmp_path / name, values)
    _, (warning, ) = read(tmp_path / name)
    low, high = values.min(), values.max()
    assert words in warning and f'set value_range=({low:.6g}, {high:.6g})' in warning
    image, warned = read(tmp_path / name, value_range=(low, high))
    plain = values if values.ndim == 2 else values[..., 0]
    expected = 255 * (plain.astype(float) - low) / (high - low)
    assert not warned and image.shape == (48, 64, 3)
    # An HDR file rounds its values to 8 bits and an exponent.
    assert np.abs(image[..., 1] - expected).max() <= (2 if name == 'a.hdr' else 0.51)


@pytest.mark.parametrize('name', ['a.png', 'a.pgm', 'a.im'])
def test_pictures_that_use_16_bits_keep_the_upper_8_without_a_warning(tmp_path, name):
    values = ramp(0, 65535, np.uint16)
    write(tmp_path / name, values)
    image, warned = read(tmp_path / name)
    assert not warned and (image[..., 0] == values >> 8).all()
