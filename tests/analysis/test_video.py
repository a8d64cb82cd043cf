"""Video clips, and what a warm start saves on them."""

import csv
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_masks
from small_model import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Two clips of three frames. It also works if Python leaves the script's folder off its path."""
    folder = tmp_path_factory.mktemp('clips')
    subprocess.run([sys.executable, str(ROOT / 'tools/dataset/make_clips.py'), str(folder), '--clips', '2',
                    '--frames', '3'], check=True, env=dict(os.environ, PYTHONSAFEPATH='1'))
    return folder


def test_digits_move_slowly_in_a_clip(clips):
    data = json.loads((clips / 'clips.json').read_text())
    assert [image['file_name'] for image in data['images']] == [
        f'clip{clip:02d}/{number:06d}.png' for clip in (1, 2) for number in (1, 2, 3)]
    boxes = {image['id']: [a['bbox'] for a in data['annotations'] if a['image_id'] == image['id']]
             for image in data['images']}
    for first in (1, 4):
        assert len(boxes[first]) >= 1
        for one, other in ((first, first + 1), (first + 1, first + 2)):
            for before, after in zip(boxes[one], boxes[other]):
                assert before[2:] == after[2:] and np.abs(np.subtract(before, after)).max() <= 2
        for frame in range(first, first + 3):
            image = cv2.imread(str(clips / data['images'][frame - 1]['file_name']))
            for x, y, width, height in boxes[frame]:
                assert 0 <= x and x + width <= image.shape[1] and 0 <= y and y + height <= image.shape[0]
    for annotation in data['annotations']:
        assert coco_masks.toBbox(annotation['segmentation']).tolist() == annotation['bbox']


def test_refinements_of_both_ways(call, folder, clips, tmp_path):
    call('analysis/warm_start.py', folder / 'small.py', folder / 'model.pth', '--out', tmp_path,
         '--tolerance', 'position=1e9', '--cfg-options', f'test_dataloader.dataset.data_root={clips}/',
         'test_dataloader.dataset.ann_file=clips.json', 'test_dataloader.dataset.data_prefix.img=')
    with open(tmp_path / 'warm_start.csv', newline='') as file:
        cold, warm = csv.DictReader(file)
    # With such a wide limit each frame takes one step and one refinement, but the frames start differently.
    assert float(cold['refinements']) == float(warm['refinements']) == 2 and int(warm['frames']) == 6
    assert cold['box'] != warm['box']
