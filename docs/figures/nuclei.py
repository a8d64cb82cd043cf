"""The picture of docs/masks.md: nuclei.jpg, beside this file, the lower rows of the microscope picture.

python docs/figures/nuclei.py CONFIG WEIGHTS [--wheel FILE]
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from deqdet import DEQDetInferencer
from deqdet.commands.dataset.make_nuclei import SOURCE, read_pictures, to_8_bits
from pycocotools import mask as rle

ROWS, GAP, TILE = 192, 32, 96  # as make_nuclei.py
ENLARGE, SCORE = 2, 0.3
# BGR
TRUE, FOUND = (255, 255, 255), (60, 160, 255)


def outlines(canvas, masks, colour):
    """Draw the outlines of masks on an enlarged picture."""
    for mask in masks:
        large = cv2.resize(mask.astype(np.uint8), None, fx=ENLARGE, fy=ENLARGE,
                           interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, colour, 1, cv2.LINE_AA)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('weights')
    parser.add_argument('--wheel', type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, numbers = read_pictures(args.wheel or SOURCE.download(Path(folder)))
    picture = to_8_bits(source, source[:-ROWS - GAP])[-ROWS:]
    numbers = numbers[-ROWS:]
    found, = DEQDetInferencer(args.config, args.weights)(picture, tile=TILE, overlap=0.5)['predictions']
    masks = [rle.decode(mask) for mask, score in zip(found['masks'], found['scores']) if score > SCORE]
    true = [numbers == number for number in np.unique(numbers) if number]
    # Brighter than the network sees it: most nuclei are dark.
    bright = (255 * (picture / 255) ** 0.5).astype(np.uint8)
    halves = []
    for drawn, colour in ((true, TRUE), (masks, FOUND)):
        canvas = cv2.cvtColor(cv2.resize(bright, None, fx=ENLARGE, fy=ENLARGE), cv2.COLOR_GRAY2BGR)
        outlines(canvas, drawn, colour)
        halves.append(canvas)
    cv2.imwrite(str(Path(__file__).with_name('nuclei.jpg')), np.vstack(halves),
                [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f'{len(true)} nuclei, {len(masks)} detections above {SCORE}')


if __name__ == '__main__':
    main()
