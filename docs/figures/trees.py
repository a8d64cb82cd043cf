"""Pictures for README.md and docs/own_backbone_and_data.md, beside this file, after `make trees`.

trees.jpg has a part of the photograph of the other place, with the true boxes on the left and the found ones
on the right. trees_site.jpg has all of it, with the found ones.

python docs/figures/trees.py
"""

import json
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPH, TRUTH = ROOT / 'data/trees/whole/test.png', ROOT / 'data/trees/annotations/whole_test.json'
DETECTIONS = ROOT / 'work_dirs/trees/whole/detections.json'
SCORE = 0.3
ROWS, COLUMNS = slice(380, 780), slice(400, 900)  # the part of trees.jpg
# BGR
TRUE, FOUND = (255, 255, 255), (60, 160, 255)


def drawn(picture, boxes, colour):
    """A copy of the picture with boxes (x, y, width, height)."""
    canvas = picture.copy()
    for x, y, width, height in np.rint(boxes).astype(int).tolist():
        cv2.rectangle(canvas, (x, y), (x + width, y + height), colour, 1, cv2.LINE_AA)
    return canvas


def main():
    picture = cv2.imread(str(PHOTOGRAPH))
    true = [each['bbox'] for each in json.loads(TRUTH.read_text())['annotations']]
    found = [each['bbox'] for each in json.loads(DETECTIONS.read_text()) if each['score'] > SCORE]
    halves = [drawn(picture, boxes, colour)[ROWS, COLUMNS]
              for boxes, colour in ((true, TRUE), (found, FOUND))]
    for name, image in (('trees', np.hstack(halves)), ('trees_site', drawn(picture, found, FOUND))):
        cv2.imwrite(str(Path(__file__).with_name(f'{name}.jpg')), image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f'{len(true)} trees, {len(found)} detections above {SCORE}')


if __name__ == '__main__':
    main()
