"""Make a detection data set in COCO format from cut-out objects, pasted on photographs.

    python tools/dataset/make_pasted.py CUTOUTS BACKGROUNDS --out data/pasted

CUTOUTS has a sub-folder for each class, with pictures whose background is transparent (PNG, WebP, ...).
Folders below a class belong to it. BACKGROUNDS has photographs of any size. The command writes train/, tune/,
test/, and a file for each in annotations/.

No cut-out is in two splits. Each class needs at least one for each split; 60 % are for train. With as many
backgrounds as splits, or more, no background is in two splits either. With fewer, each split uses its own
part of every background. This does not depend on --seed.

Each object is of a random class, and a random cut-out of it. Its longer side has --min-size to --max-size
pixels, 8 to 16 as often as 16 to 32 (log-uniform), and the whole object is in the picture. A cut-out becomes
at most twice as large as its file, unless --min-size needs more. Later objects hide earlier ones, but at most
the share --overlap of each. If five random cut-outs find no room, at 50 places each, the object is left out.

Masks, boxes and area are of the visible pixels: the object covers at least half of them (alpha 0.5), and no
later object does. Each annotation also has its cut-out, and the visible share of all its pixels. The same
arguments and files give the same bytes, with the same versions of OpenCV, NumPy and Pillow.
"""

import argparse
import os
import re
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from ...data.cutouts import (
    OPAQUE,
    Cutout,
    Material,
    Part,
    check_apart,
    read_background,
    read_backgrounds,
    read_cutouts,
    share_backgrounds,
    split_files,
)
from ...data.findings import some_of
from ...data.pasting import LEAST_ALPHA, Look, crop_background, mask_box, paste_objects, reduced
from ...data.tile_sets import Tile, check_folder, check_outside, remove_others, write_part
from ...errors import UsageError, shown_name
from ...files.disk import check_work_dir
from ...images.pillow import read_with_alpha
from ...inference.inputs import split_names
from ...launching.command_line import Parser, run, within
from .make_digits import MASKS

SPLITS = ('train', 'tune', 'test')
#: Shares of the splits in the cut-outs of each class, and in each background if there are few.
SHARES, STRIPS = (0.6, 0.2, 0.2), (0.5, 0.25, 0.25)
LICENCE = 'the licence of the data set is that of the cut-outs and backgrounds'
_LEAST_SIDE, _MOST_SIDE, _MOST_PICTURES = 32, 4096, 999_999
_PROGRESS_EVERY = 250


class Sources(NamedTuple):
    """What each split uses.

    Attributes:
        classes (list[str]): Names, sorted.
        cutouts (dict): By split and class: the cut-outs.
        backgrounds (dict): By split: parts of backgrounds.
        digest (dict[str, str]): SHA-256 of all cut-outs and of all backgrounds.
        notes (list[str]): Lines for the user.
    """

    classes: List[str]
    cutouts: Dict[str, List[List[Cutout]]]
    backgrounds: Dict[str, List[Part]]
    digest: Dict[str, str]
    notes: List[str]


def _parse_args():
    parser = Parser(description=__doc__)
    add = parser.add_argument
    number = within(0, _MOST_PICTURES)
    add('cutouts', type=Path, metavar='CUTOUTS', help='folder with a sub-folder of cut-outs for each class')
    add('backgrounds', type=Path, metavar='BACKGROUNDS', help='folder of photographs')
    add('--out', type=Path, default=Path('data/pasted'), help='output folder (default: data/pasted)')
    add('--train', type=within(1, _MOST_PICTURES), default=1000, metavar='N',
        help='training pictures (default: %(default)s)')
    for split in SPLITS[1:]:
        add(f'--{split}', type=number, default=200, metavar='N',
            help=f'pictures of {split}, 0 for none (default: %(default)s)')
    add('--image-size', type=within(_LEAST_SIDE, _MOST_SIDE), nargs=2, default=[320, 320],
        metavar=('WIDTH', 'HEIGHT'), help='size of a picture in pixels (default: 320 320)')
    add('--objects', type=within(1, 1000), nargs=2, default=[1, 8], metavar=('MIN', 'MAX'),
        help='objects in a picture (default: 1 8)')
    add('--min-size', type=within(4, _MOST_SIDE), default=8, metavar='PX',
        help='least longer side of an object (default: %(default)s)')
    add('--max-size', type=within(4, _MOST_SIDE), default=300, metavar='PX',
        help='greatest longer side of an object (default: %(default)s)')
    add('--rotation', type=within(0, 180, kind=float), default=30.0, metavar='DEGREES',
        help='most degrees that an object is turned, to either side (default: %(default)s)')
    add('--blur', type=within(0, 5, kind=float), default=0.8, metavar='PX',
        help='greatest standard deviation of the blur; small objects get less (default: %(default)s)')
    add('--no-flip', dest='flip', action='store_false', help='do not mirror half of the objects')
    add('--overlap', type=within(0, 0.9, kind=float), default=0.5, metavar='SHARE',
        help='most of an object that later objects may hide (default: %(default)s)')
    add('--classes', nargs='+', metavar='NAME', help='use only these sub-folders of CUTOUTS')
    add('--exclude', nargs='+', default=[], metavar='NAME',
        help="leave out files and folders of CUTOUTS with these names, for example cartoon '*_mirror.png'")
    add('--skip-bad', action='store_true',
        help='leave out pictures that cannot be used: broken, or cut-outs without transparency')
    add('--masks', choices=list(MASKS), default='rle',
        help='form of the masks; polygons fill holes (default: %(default)s)')
    add('--seed', type=within(0, 2**32 - 1), default=0, help='seed of the pictures (default: %(default)s)')
    add('--overwrite', action='store_true', help='replace a data set made with other arguments or files')
    args = parser.parse_args()
    _check(args)
    return args


def _check(args):
    shorter, (least, most) = min(args.image_size), args.objects
    for wrong, message in (
            (least > most, f'--objects {least} {most}: MIN is greater than MAX'),
            (args.min_size > args.max_size,
             f'--min-size {args.min_size} is greater than --max-size {args.max_size}'),
            (args.min_size > shorter,
             f'--min-size {args.min_size} does not fit a picture with a side of {shorter} pixels: use a '
             'smaller one, or a larger --image-size')):
        if wrong:
            raise UsageError(message, 'bad-argument')


def _files_of(folder: Path, exclude: Sequence[str]) -> List[str]:
    """Pictures in a folder and below, sorted: paths below it, with slashes."""
    found, seen = [], {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        below = {os.path.realpath(os.path.join(place, name)): name for name in sorted(folders, reverse=True)
                 if not name.startswith('.') and not _matches(name, exclude)}
        folders[:] = sorted(name for path, name in below.items() if path not in seen)  # links may form a ring
        seen.update(below)
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in split_names(files)[0]
                  if not _matches(name, exclude)]
    return sorted(found)


def _matches(name, patterns) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _list_cutouts(args) -> Dict[str, List[str]]:
    """The files of each class, by its name; nothing is opened."""
    folder = args.cutouts
    for path in (folder, args.backgrounds):
        if not path.is_dir():
            raise UsageError(f'{path} is not a folder', 'missing-file')
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))
    unknown = [name for name in args.classes or () if name not in names]
    if unknown or not names:
        raise UsageError(f'{folder} has no sub-folder ' + (f'{some_of(unknown)}: it has {some_of(names)}'
                         if names else 'with cut-outs: make one for each class'), 'missing-file')
    names = [name for name in names if name in (args.classes or names) and not _matches(name, args.exclude)]
    if not names:
        raise UsageError(f'{folder}: --exclude leaves out all classes', 'bad-argument')
    return {name: [f'{name}/{file}' for file in _files_of(folder / name, args.exclude)] for name in names}


def prepare_sources(args: argparse.Namespace) -> Sources:
    """List and read all files once, and give them to the splits.

    Raises:
        UsageError: If a folder is missing, files cannot be used, or there are too few.
    """
    files = _list_cutouts(args)
    _check_counts(args, files, 'has no cut-outs')
    photographs = _files_of(args.backgrounds, ())
    if not photographs:
        raise UsageError(f'{args.backgrounds} has no photographs', 'missing-file')
    loose = split_names(path.name for path in args.cutouts.iterdir() if path.is_file())[0]
    notes = [f'{args.cutouts}: not used, in no sub-folder: {len(loose)} ({_first(loose)})'] * bool(loose)
    listed = [name for of_class in files.values() for name in of_class]
    check_apart(args.cutouts, listed, args.backgrounds, photographs)
    cutouts = read_cutouts(args.cutouts, listed)
    _use(args, cutouts, args.cutouts, 'cut-outs need a transparent background: ' * (OPAQUE in cutouts.faults)
         + 'remove these files, or leave them out with --exclude NAME or --skip-bad', notes)
    backgrounds = read_backgrounds(args.backgrounds, photographs, workers=min(8, os.cpu_count() or 1),
                                   report=lambda line: print(line, flush=True))
    _use(args, backgrounds, args.backgrounds, 'remove these files, or leave them out with --skip-bad', notes)
    if not backgrounds.names:
        raise UsageError(f'{args.backgrounds} has no photographs that can be used', 'missing-file')
    kept = set(cutouts.names)
    files = {name: [each for each in of_class if each in kept] for name, of_class in files.items()}
    _check_counts(args, files, 'has no cut-outs that can be used', notes[bool(loose):])
    splits, shares = _active(args, SHARES)
    parts: Dict[str, List[List[Cutout]]] = {split: [] for split in splits}
    for label, of_class in enumerate(files.values()):
        for split, names in zip(splits, split_files(of_class, shares, label)):
            parts[split].append([Cutout(name, label) for name in names])
    if len(backgrounds.names) < len(splits):
        shares = _active(args, STRIPS)[1]
        notes.append(f'{args.backgrounds}: only {len(backgrounds.names)} for {len(splits)} splits, so each '
                     'split uses its own part of every background')
    return Sources(
        list(files), parts,
        dict(zip(splits, share_backgrounds(args.backgrounds, backgrounds.names, shares))),
        dict(cutouts=cutouts.digest, backgrounds=backgrounds.digest), notes)


def _active(args, shares) -> Tuple[List[str], List[float]]:
    """The splits that have pictures, and their shares."""
    pairs = [(split, share) for split, share in zip(SPLITS, shares) if getattr(args, split)]
    return [split for split, _ in pairs], [share for _, share in pairs]


def _check_counts(args, files, none, notes=()):
    """Refuse classes with fewer cut-outs than splits; ``notes`` say why files are not used."""
    splits, why = _active(args, SHARES)[0], ''.join(f'; {note}' for note in notes)
    empty = [name for name, of_class in files.items() if not of_class]
    few = [f'{name} ({len(of_class)})' for name, of_class in files.items() if len(of_class) < len(splits)]
    if empty or not files:
        raise UsageError(f'{args.cutouts}: {_first(empty) or "the folder"} {none}: remove such folders, or '
                         'choose others with --classes' + why, 'missing-file')
    if few:
        raise UsageError(
            f'{args.cutouts}: each class needs a cut-out for each of {", ".join(splits)}, but '
            f'{_first(few)} has fewer: add cut-outs, leave the class out with --exclude, or make fewer '
            'splits with --tune 0 or --test 0' + why, 'bad-argument')


def _first(names) -> str:
    return some_of([shown_name(name) for name in names], 3)


def _use(args, material: Material, folder, advice, notes):
    """Refuse files that cannot be used, or note them."""
    if not args.skip_bad:
        material.refuse(folder, advice)
    if material.faults:
        notes.append(f'{folder}: not used: {material.reasons}')
    if material.copies:
        notes.append(f'{folder}: not used, copies of others: {len(material.copies)} '
                     f'({_first(material.copies)})')


# Photographs are large, so only a few are kept. Cut-outs are kept at a size near that of the objects.
_background = lru_cache(maxsize=4)(read_background)


@lru_cache(maxsize=256)
def _cutout(path: Path, look: Look) -> np.ndarray:
    return reduced(read_with_alpha(path.read_bytes()), look)


def _draw(args, look, rng, sources, split) -> Tuple[Tile, int]:
    """One picture without its name, and the number of objects that found no room."""
    part = sources.backgrounds[split][rng.integers(len(sources.backgrounds[split]))]
    photograph = _background(args.backgrounds / part.name)[part.rows, part.columns]
    background, (x, y, w, h) = crop_background(rng, photograph, *args.image_size)
    crop = [x + (part.columns.start or 0), y + (part.rows.start or 0), w, h]

    def pick():
        of_class = sources.cutouts[split][rng.integers(len(sources.classes))]
        cutout = of_class[rng.integers(len(of_class))]
        return cutout, _cutout(args.cutouts / cutout.name, look)

    scene, drawn, left_out = paste_objects(rng, background, pick, look)
    objects = []
    for number, cutout in enumerate(drawn):
        mask = scene.mask(number)
        objects.append(dict(
            category_id=cutout.label + 1, iscrowd=0, bbox=list(mask_box(mask)), area=scene.visible[number],
            segmentation=MASKS[args.masks](mask), cutout=shown_name(cutout.name),
            visible=round(scene.visible[number] / scene.whole[number], 4)))
    picture = np.rint(scene.picture).clip(0, 255).astype(np.uint8)
    return Tile('', picture, objects, dict(background=shown_name(part.name), crop=crop)), left_out


def _tiles(args, sources, split, left_out: List[int]) -> Iterator[Tile]:
    """The pictures of a split; counts of objects without room are appended to ``left_out``."""
    look = Look((args.min_size, args.max_size), tuple(args.objects), args.rotation, args.blur, args.flip,
                args.overlap)
    count = getattr(args, split)
    for index in range(1, count + 1):
        # A separate generator: a picture does not depend on the number of others.
        rng = np.random.default_rng([args.seed, SPLITS.index(split), index])
        tile, missing = _draw(args, look, rng, sources, split)
        left_out.append(missing)
        yield tile._replace(name=f'{index:06d}.png')
        if index % _PROGRESS_EVERY == 0 and index < count:
            print(f'{split}: {index} of {count} pictures', flush=True)


def _check_out(args, arguments):
    """Refuse an output folder with other content, or with the input; --overwrite allows the first."""
    check_outside(args.out, SPLITS, (args.cutouts, args.backgrounds))
    strange = [] if args.overwrite or not args.out.is_dir() else [
        path for path in sorted(args.out.iterdir()) if path.name not in (*SPLITS, 'annotations')] + [
        path for split in SPLITS for path in sorted((args.out / split).glob('*'))
        if not re.fullmatch(r'\d{6}\.png', path.name)]
    if strange:
        raise UsageError(f'{args.out} has other files ({some_of([path.name for path in strange], 3)}): use '
                         'another --out, or add --overwrite', 'output-exists')
    if arguments is not None:
        check_folder(args.out, arguments, {split: split for split in SPLITS}, overwrite=args.overwrite)


def make(args: argparse.Namespace) -> List[str]:
    """Write the data set; returns a line about each split.

    Raises:
        UsageError: If arguments, files or folder cannot be used, or a file cannot be written.
    """
    _check_out(args, None)
    sources = prepare_sources(args)
    arguments = {name: getattr(args, name) for name in (
        *SPLITS, 'image_size', 'objects', 'min_size', 'max_size', 'rotation', 'blur', 'flip', 'overlap',
        'masks', 'seed')}
    arguments.update(classes=sources.classes, sha256=sources.digest)
    check_work_dir(args.out, option='--out')
    _check_out(args, arguments)
    print('\n'.join([*sources.notes, f'for the config: classes = {tuple(sources.classes)}']), flush=True)
    lines, categories = [], [dict(name=name, supercategory='object') for name in sources.classes]
    for split, cutouts in sources.cutouts.items():
        names = sorted({part.name for part in sources.backgrounds[split]})
        info = dict(description='Cut-outs pasted on photographs, by make_pasted.py', arguments=arguments,
                    least_alpha=LEAST_ALPHA, licence=LICENCE, cutouts={
                        name: len(of_class) for name, of_class in zip(sources.classes, cutouts)},
                    backgrounds=len(names))
        left_out: List[int] = []
        try:
            data = write_part(args.out, split, _tiles(args, sources, split, left_out), categories, info)
            remove_others(args.out / split, {image['file_name'] for image in data['images']})
        except OSError as error:
            raise UsageError(f'the data set cannot be written to {args.out} ({error.strerror or error}): '
                             'choose another folder with --out', 'output-failed') from error
        lines.append(f'{split}: {len(data["images"])} pictures, {len(data["annotations"])} objects; '
                     f'{sum(map(len, cutouts))} cut-outs, backgrounds: {len(names)}; without room: '
                     f'{sum(left_out)} objects')
    return lines


def main() -> None:
    args = _parse_args()
    print('\n'.join([*make(args), f'wrote {args.out}']))


if __name__ == '__main__':
    run(main)
