"""A small detector and pictures, for the tests of inference."""

import cv2
import numpy as np
import pytest
import torch
from exported import CONFIG, detector, settling
from mmengine.registry import DefaultScope
from small_model import build, small_mask_head

#: Runs a test without masks and with them. The fixture ``files`` passes its parameter to write_detector.
with_masks_as_with_boxes = pytest.mark.parametrize(
    'files', ['', 'local'], indirect=True, ids=['boxes', 'masks'])


def write_detector(folder, mask_head=''):
    """Write config and checkpoint of :func:`detector`, whose boxes move, or of one with a mask head."""
    config, model = CONFIG, detector()
    if mask_head:
        config += f"model['roi_head'] = dict(mask_head={small_mask_head(mask_head)!r})\n"
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = settling(build(mask_head=small_mask_head(mask_head)))  # the boxes stay in the image
    (folder / 'small.py').write_text(config)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'small.pth')
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
