"""Cut-outs and backgrounds from scikit-learn: its scans of digits, and its two photographs."""

import cv2
import numpy as np
import pytest

pytest.importorskip('sklearn')


def photographs():
    """The two photographs, BGR, uint8, each of shape (427, 640, 3)."""
    from sklearn.datasets import load_sample_images
    return [np.ascontiguousarray(each[..., ::-1]) for each in load_sample_images().images]


def digit_cutouts(digit, count, side=40):
    """Scans of a digit: ink becomes alpha, a part of a photograph gives the colours."""
    from sklearn.datasets import load_digits
    digits, (_, flower) = load_digits(), photographs()
    scans = digits.images[digits.target == digit][:count] / 16
    for number, scan in enumerate(scans):
        alpha = cv2.resize(scan, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        colour = flower[100 + 7 * number:, 200 + 11 * number:][:side, :side]
        yield np.dstack([colour, np.rint(255 * alpha).astype(np.uint8)])


def oval_cutouts(count, width=90, height=60):
    """Ovals cut out of the flower, with a smooth edge."""
    flower = photographs()[1]
    alpha = np.zeros((height, width), np.uint8)
    cv2.ellipse(alpha, (width // 2, height // 2), (width // 2 - 6, height // 2 - 6), 0, 0, 360, 255, -1)
    alpha = cv2.GaussianBlur(alpha, (5, 5), 1)
    for number in range(count):
        y, x = 40 + 17 * number, 150 + 23 * number
        yield np.dstack([flower[y:y + height, x:x + width], alpha])


def write(path, picture):
    """Write a picture; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())


def write_cutouts(folder):
    """Three classes, named as in the config; one has a folder below it, one has a WebP file."""
    for number, picture in enumerate(digit_cutouts(3, 7)):
        write(folder / 'animals' / ('threes' if number % 2 else '.') / f'three{number}.png', picture)
    for number, picture in enumerate(oval_cutouts(5)):
        write(folder / 'food' / f'oval{number}.{"png" if number else "webp"}', picture)
    for number, picture in enumerate(digit_cutouts(8, 3)):
        write(folder / 'plants' / f'eight{number}.png', picture)
    (folder / 'plants' / 'about.txt').write_text('no picture')
    return folder


def write_backgrounds(folder, count=4):
    """Parts of the photographs, each other ones; the first is smaller than the pictures of the tests."""
    china, flower = photographs()
    parts = [china[:90, :70], flower[:200], china[200:], flower[200:, 100:300]]
    for number, part in enumerate(parts[:count]):
        write(folder / f'{number}.jpg', part)
    return folder
