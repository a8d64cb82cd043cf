"""Image files of unusual kinds and sizes, and files that are not images."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def _noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def _bytes(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    return _bytes(Image.fromarray(_noise(40, 80, 3)), 'JPEG', exif=exif)


def _frames(kind):
    frames = [Image.fromarray(_noise(48, 64)) for _ in range(3)]
    return _bytes(frames[0], kind, save_all=True, append_images=frames[1:])


#: Readable files: content, width and height as read, by file name.
READABLE = {
    '1x1.png': (lambda: _bytes(Image.fromarray(_noise(1, 1, 3)), 'PNG'), (1, 1)),
    '2x3.png': (lambda: _bytes(Image.fromarray(_noise(3, 2, 3)), 'PNG'), (2, 3)),
    'wide.png': (lambda: _bytes(Image.fromarray(_noise(1, 4000, 3)), 'PNG'), (4000, 1)),
    'tall.png': (lambda: _bytes(Image.fromarray(_noise(4000, 1, 3)), 'PNG'), (1, 4000)),
    'strip.png': (lambda: _bytes(Image.fromarray(_noise(20, 2000, 3)), 'PNG'), (2000, 20)),
    'grey.png': (lambda: _bytes(Image.fromarray(_noise(48, 64)), 'PNG'), (64, 48)),
    'grey.jpg': (lambda: _bytes(Image.fromarray(_noise(48, 64)), 'JPEG'), (64, 48)),
    'bits.png': (lambda: _bytes(Image.fromarray(_noise(48, 64) > 128), 'PNG'), (64, 48)),
    'rgba.png': (lambda: _bytes(Image.fromarray(_noise(48, 64, 4)), 'PNG'), (64, 48)),
    'grey and alpha.png': (lambda: _bytes(Image.fromarray(_noise(48, 64, 2), 'LA'), 'PNG'), (64, 48)),
    '16 bit.png': (lambda: _bytes(Image.fromarray(_noise(48, 64, dtype=np.uint16)), 'PNG'), (64, 48)),
    '16 bit.tif': (lambda: _bytes(Image.fromarray(_noise(48, 64, dtype=np.uint16)), 'TIFF'), (64, 48)),
    'cmyk.jpg': (lambda: _bytes(Image.fromarray(_noise(48, 64, 4), 'CMYK'), 'JPEG'), (64, 48)),
    'palette.png': (lambda: _bytes(Image.fromarray(_noise(48, 64, 3)).quantize(7), 'PNG', transparency=0),
                    (64, 48)),
    'turned.jpg': (_turned, (40, 80)),
    'pages.tif': (lambda: _frames('TIFF'), (64, 48)),
    'moving.gif': (lambda: _frames('GIF'), (64, 48)),
    'moving.png': (lambda: _frames('PNG'), (64, 48)),
    'jpeg inside.png': (lambda: _bytes(Image.fromarray(_noise(48, 64, 3)), 'JPEG'), (64, 48)),
    'progressive.jpg': (
        lambda: _bytes(Image.fromarray(_noise(48, 64, 3)), 'JPEG', progressive=True), (64, 48)),
    'bitmap.bmp': (lambda: _bytes(Image.fromarray(_noise(48, 64, 3)), 'BMP'), (64, 48)),
    'small.webp': (lambda: _bytes(Image.fromarray(_noise(48, 64, 3)), 'WEBP'), (64, 48)),
}

_JPEG = READABLE['progressive.jpg'][0]

#: Unreadable files: content by name; None is a folder.
UNREADABLE = {
    'empty.jpg': lambda: b'',
    'cut.png': lambda: READABLE['grey.png'][0]()[:40],
    'cut.jpg': lambda: _JPEG()[:90],
    'text.jpg': lambda: b'not an image at all\n' * 100,
    'page.png': lambda: b'<!DOCTYPE html><html>404</html>',
    'zeros.jpg': lambda: bytes(4096),
    'head.png': lambda: b'\x89PNG\r\n\x1a\n',
    # Its header asks for more memory than exists.
    'bomb.png': lambda: READABLE['grey.png'][0]().replace(
        (64).to_bytes(4, 'big') + (48).to_bytes(4, 'big'), (2**31 - 1).to_bytes(4, 'big') * 2, 1),
    'folder.jpg': None,
}


def write(path: Path, content) -> Path:
    """Write one of them, as a file or a folder."""
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content())
    return path
