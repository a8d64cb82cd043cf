"""Tile the first pictures of a folder: ``montage.py FOLDER OUT.png [COLUMNS ROWS]``."""

import sys
from pathlib import Path
from typing import Any, List

import cv2
import numpy as np

ENLARGE = 2


def montage(folder, out, columns=3, rows=3):
    """Write one image of columns x rows images of equal size from a folder of PNG files, sorted by name."""
    files = sorted(Path(folder).glob('*.png'))[:columns * rows]
    files = files[:len(files) // columns * columns]
    if not files:
        raise SystemExit(f'error: {folder} has fewer than {columns} PNG files')
    pictures: List[Any] = [cv2.imread(str(file)) for file in files]
    tiles = [cv2.resize(picture, None, fx=ENLARGE, fy=ENLARGE) for picture in pictures]
    grid = [np.hstack(tiles[i:i + columns]) for i in range(0, len(tiles), columns)]
    cv2.imwrite(str(out), np.vstack(grid))


if __name__ == '__main__':
    if len(sys.argv) not in (3, 5):
        raise SystemExit(__doc__)
    montage(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
