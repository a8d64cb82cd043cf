"""A small detector and pictures, for the tests of inference."""

import cv2
import numpy as np
import torch
from exported import CONFIG, detector


def write_detector(folder):
    """Write config and checkpoint of :func:`detector`, whose boxes move."""
    (folder / 'small.py').write_text(CONFIG)
    torch.save(dict(state_dict=detector().state_dict(), meta={}), folder / 'small.pth')
    return folder / 'small.py', folder / 'small.pth'


def picture(seed=0, shape=(70, 90)):
    """An image of coloured blots, BGR, uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 5).astype(np.float32)
    return np.clip((blurred - blurred.mean()) * 6 + 128, 0, 255).astype(np.uint8)


def write_pictures(folder, count, first=0):
    """Write PNG files ``000.png``, ..., into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        cv2.imwrite(str(folder / f'{number:03}.png'), picture(number, (60 + number % 3, 80)))
    return folder
