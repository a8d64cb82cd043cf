"""Make a small detection data set in COCO format: handwritten digits on photographs.

It downloads nothing. The digits are the 1,797 scans of scikit-learn's ``load_digits`` (8 x 8 pixels each),
the backgrounds are crops of its two sample photographs:

    python tools/dataset/make_digits.py data/digits

writes ``train/000001.png ...``, ``val/...``, ``test/...``, ``annotations/train.json``,
``annotations/val.json``, ``annotations/test.json``.

One fixed permutation splits the scans, for every seed: 1,400 for training, 397 for validation and test. No
scan is in two of the three: the test images show only scans that no validation image shows. So settings can
be chosen on ``val`` and reported on ``test``. A writer may be in all three, and all crop the same two
photographs. The same arguments give the same bytes with the same NumPy, Pillow and scikit-learn. It needs
only these three packages and pycocotools, and all of DEQDet for ``--masks polygons``.
"""

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

VERSION = 1  # increase it when the same arguments give other images
SPLITS = ('train', 'val')
ALL_SPLITS = (*SPLITS, 'test')
TRAIN_SCANS = 1400
SPLIT_SEED = 1797
SCAN_SIDE = 8
PHOTO_SIDE = 427  # the shorter side; crops are not enlarged
BOX_ALPHA = 0.25  # box and mask hold the pixels with more ink than this
COLOUR = (150, 255)
PLACEMENT_TRIES = 100
MAX_COUNT = 999_999  # six digits in a file name
PROGRESS_EVERY = 250
Range = Sequence[Any]  # least and greatest value, inclusive


class UsageError(ValueError):
    """An error that the user can fix; the message is one line."""


class Scans(NamedTuple):
    """Digits for one split: S scans, numbered as in ``load_digits``."""
    index: np.ndarray  # type: ignore[assignment]  # scan number, has shape (S,)
    alpha: np.ndarray  # ink from 0 to 1, has shape (S, 8, 8)
    label: np.ndarray  # 0 to 9, has shape (S,)


def load_material() -> Tuple[Dict[str, Scans], List[np.ndarray]]:
    """The scans of each split, and the photographs (RGB, uint8, shape (H, W, 3)), from scikit-learn."""
    try:
        import PIL.Image  # noqa: F401 - load_sample_images needs it; its own message is less clear
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError as error:
        raise UsageError(f'scikit-learn or Pillow is missing ({error}): pip install scikit-learn pillow'
                         ) from error
    digits = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.target))
    return {split: Scans(index, digits.images[index] / 16, digits.target[index])
            for split, index in zip(SPLITS, np.split(order, [TRAIN_SCANS]))}, load_sample_images().images


def resize_alpha(scan: np.ndarray, side: int) -> np.ndarray:
    """Enlarge a scan of shape (8, 8), 0 to 1, to an alpha mask of shape (side, side), 0 to 1."""
    from PIL import Image
    image = Image.fromarray(scan.astype(np.float32))
    # Bicubic overshoots at sharp edges, hence the clip.
    return np.clip(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)), 0, 1)


def extent(mask: np.ndarray) -> Tuple[int, int, int, int]:
    """The smallest box (x, y, w, h) around the true pixels of a mask of shape (H, W)."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def rle_of(mask: np.ndarray) -> dict:
    """A mask, has shape (H, W), bool, as COCO's run lengths: ``size`` and ``counts`` as text for JSON."""
    from pycocotools import mask as coco_masks
    code = coco_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=[int(side) for side in code['size']], counts=code['counts'].decode('ascii'))


def polygons_of(mask: np.ndarray) -> List[List[int]]:
    """A mask, has shape (H, W), bool, as polygons along the edges of its pixels; they fill holes."""
    from deqdet.inference.masks import polygons_of as outlines  # the rest of this file runs without deqdet
    return outlines(rle_of(mask))


#: The forms of ``segmentation`` in COCO's format.
MASKS: Dict[str, Callable[[np.ndarray], Any]] = dict(rle=rle_of, polygons=polygons_of)
FORMS: Dict[type, str] = {dict: 'rle', list: 'polygons'}


def draw_image(rng: np.random.Generator, scans: Scans, photos: Sequence[np.ndarray], *,
               image_size: int, digit_size: Range, digits: Range, darkness: Range, masks: str = 'rle'
               ) -> Tuple[np.ndarray, List[dict]]:
    """Draw one image.

    No pixel belongs to two digits. The first digit without room ends the image. So it may have fewer digits
    than the random number, but at least one.

    Args:
        rng (np.random.Generator): Draws everything.
        scans (Scans): Digits to choose from.
        photos (Sequence[np.ndarray]): Backgrounds, uint8, has shape (H, W, 3), at least ``image_size`` each.
        **others: As in :func:`make_digits`.

    Returns:
        tuple: The RGB image, uint8, has shape (image_size, image_size, 3), and each digit's COCO annotation.
    """
    photo = photos[int(rng.integers(len(photos)))]
    y, x = (int(rng.integers(side - image_size + 1)) for side in photo.shape[:2])
    image = photo[y:y + image_size, x:x + image_size] * rng.uniform(darkness[0], darkness[1])
    taken = np.zeros((image_size, image_size), dtype=bool)
    drawn = []
    for _ in range(rng.integers(digits[0], digits[1] + 1)):
        chosen = rng.integers(len(scans.label))
        side = int(rng.integers(digit_size[0], digit_size[1] + 1))
        colour = rng.integers(COLOUR[0], COLOUR[1] + 1, size=3)
        alpha = resize_alpha(scans.alpha[chosen], side)
        # The box with the faint rim of the digit: no other digit's rim may lie in a box.
        left, top, width, height = extent(alpha > 0)
        alpha = alpha[top:top + height, left:left + width]
        for _ in range(PLACEMENT_TRIES):
            x = int(rng.integers(image_size - width + 1))
            y = int(rng.integers(image_size - height + 1))
            place = np.s_[y:y + height, x:x + width]
            if not taken[place].any():
                break
        else:
            break
        taken[place] = True
        image[place] += alpha[..., None] * (colour - image[place])
        mask = np.zeros_like(taken)
        mask[place] = alpha > BOX_ALPHA
        left, top, width, height = extent(mask)
        # COCO's area is that of the mask. This one stays that of the box: published AP by size depends on it.
        drawn.append(dict(category_id=int(scans.label[chosen]) + 1, iscrowd=0,
                          bbox=[left, top, width, height], area=width * height,
                          scan=int(scans.index[chosen]), segmentation=MASKS[masks](mask)))
    return np.rint(image).astype(np.uint8), drawn


def _check_arguments(arguments):
    image_size = arguments['image_size']
    # A mask smaller than the scan would lose strokes, and a box could be empty.
    for name, least, most in (('train', 0, MAX_COUNT), ('val', 0, MAX_COUNT), ('test', 0, MAX_COUNT),
                              ('image_size', SCAN_SIDE, PHOTO_SIDE), ('seed', 0, 2**32 - 1),
                              ('digit_size', SCAN_SIDE, image_size), ('darkness', 0, 1),
                              ('digits', 1, image_size**2)):
        option, value = '--' + name.replace('_', '-'), arguments[name]
        low, high = value if isinstance(value, list) else (value, value)
        if low > high:
            raise UsageError(f'{option}: MIN {low} is greater than MAX {high}')
        if not least <= low <= high <= most:  # also false for NaN
            wrong = high if least <= low else low
            limit = ' (the image size)' if name == 'digit_size' else ''
            raise UsageError(f'{option} {wrong} must be from {least} to {most}{limit}')


def _unseen(scans, val):
    """The scans of validation that its images do not show, from its annotations."""
    shown = [annotation['scan'] for annotation in val['annotations']]
    left = Scans(*(values[~np.isin(scans.index, shown)] for values in scans))
    missing = sorted(set(range(10)) - set(left.label.tolist()))
    if missing:
        raise UsageError(f'--val {len(val["images"])} shows all scans of the digit {missing[0]}, so none is '
                         'left for test images: lower --val, or use --test 0')
    return left


def _state_of(out, arguments, masks, splits):
    """What is there: ``complete``, ``without masks`` (by an earlier version) or ``incomplete``."""
    complete, forms = True, set()
    for split in splits:
        path = out / 'annotations' / f'{split}.json'
        if not path.exists():
            complete = False
            continue
        try:
            data = json.loads(path.read_text(encoding='utf-8'))
            found = dict(data['info']['arguments'])
            names = [image['file_name'] for image in data['images']]
            forms |= {FORMS.get(type(annotation.get('segmentation') or None), 'none')
                      for annotation in data['annotations']}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f'{path} is not a file of this script') from None
        others = [(key, found.get(key), value) for key, value in arguments.items() if found.get(key) != value]
        others += [('masks', form, masks) for form in sorted(forms - {masks, 'none'})]
        if others or found.keys() != arguments.keys():
            other = ', '.join(f'{key} {old} instead of {new}' for key, old, new in others)
            raise UsageError(f'{out} has a data set of other arguments ({other})')
        complete = complete and all((out / split / name).is_file() for name in names)
    return 'incomplete' if not complete else 'without masks' if 'none' in forms else 'complete'


def make_digits(out: Union[str, Path], *, train: int = 1000, val: int = 200, test: int = 400,
                image_size: int = 96, digit_size: Range = (24, 44), digits: Range = (1, 4),
                darkness: Range = (0.3, 0.7), seed: int = 0, masks: str = 'rle', overwrite: bool = False,
                report: Callable[[str], None] = lambda line: None) -> bool:
    """Make the data set, unless the folder already holds it. A folder without test images gets them.

    Masks (``segmentation``) are the pixels with the digit's alpha above 0.25. No digit covers another one, so
    nothing of them is hidden. Boxes are (x, y, w, h) in pixels around the masks; ``area`` is w * h. Digit d
    has the category id d + 1. Each annotation stores its ``scan`` in ``load_digits``.

    Args:
        out (str | Path): Folder of the data set.
        train, val, test (int): Number of training, validation and test images. Test images show only
            scans that no validation image shows.
        image_size, digit_size (int, Range): Side of an image and of a digit's mask in pixels.
        digits (Range): Number of digits in an image.
        darkness (Range): Fraction of its brightness that the photograph keeps, 0 to 1.
        seed (int): Seed of the pictures; the split does not depend on it.
        masks (str): Form of the masks: ``rle``, or ``polygons``, which fill the holes of digits such as 0.
        overwrite (bool): Replace a data set that was made with other arguments, or before there were masks.
        report (Callable): Gets lines of progress.

    Returns:
        bool: Whether the data set was written; False if it was already there.

    Raises:
        UsageError: If an argument is out of range, a library is missing, or the folder has other content.
    """
    out = Path(out)
    drawing = dict(image_size=int(image_size), digit_size=list(map(int, digit_size)),
                   digits=list(map(int, digits)), darkness=list(map(float, darkness)))
    arguments = dict(version=VERSION, train=int(train), val=int(val), seed=int(seed), **drawing)
    of_test = dict(arguments, test=int(test))
    _check_arguments(of_test)
    if masks not in MASKS:
        raise UsageError(f'--masks {masks} must be one of {", ".join(MASKS)}')
    try:
        try:
            state = _state_of(out, arguments, masks, SPLITS)
            if state == 'without masks' and not overwrite:
                report(f'{out} was made without masks: to add them, use --overwrite')
                return False
            of_tests = _state_of(out, of_test, masks, ('test', ))
            if state == of_tests == 'complete':
                return False
            todo: Sequence[str] = ('test', ) if state == 'complete' else ALL_SPLITS
        except UsageError as error:
            if not overwrite:
                raise UsageError(f'{error}: use another folder, or add --overwrite') from None
            todo = ALL_SPLITS
        scans, photos = load_material()
        # A missing package shows now, before the old annotations are removed.
        MASKS[masks](np.ones((1, 1), dtype=bool))
        _write(out, todo, of_test, dict(drawing, masks=masks), scans, photos, overwrite, report)
    except ImportError as error:
        raise UsageError(f'a package for masks is missing ({error}): pip install pycocotools') from error
    except OSError as error:
        raise UsageError(f'the data set cannot be written to {out}: {error}') from error
    return True


def _write(out, todo, arguments, drawing, scans, photos, overwrite, report):
    """Write the images of some splits, then their annotations."""
    for folder in ('annotations', *ALL_SPLITS):
        (out / folder).mkdir(parents=True, exist_ok=True)
    # Removed before the first image: an unfinished folder must not look like a complete data set.
    for split in todo:
        (out / 'annotations' / f'{split}.json').unlink(missing_ok=True)
    contents = {}
    # The test images depend on those of validation. The many of training come last: errors show early.
    for split in ('val', 'test', 'train'):
        if split not in todo:
            continue
        allowed = scans['val' if split == 'test' else split]
        if split == 'test' and arguments['test']:
            path = out / 'annotations' / 'val.json'
            allowed = _unseen(allowed, contents.get('val') or json.loads(path.read_text(encoding='utf-8')))
        images, annotations = _draw_split(out / split, ALL_SPLITS.index(split), arguments, drawing, allowed,
                                          photos, overwrite, report)
        # The files of training and validation are those of data sets without test images.
        recorded = {key: value for key, value in arguments.items() if key != 'test' or split == 'test'}
        contents[split] = dict(
            info=dict(description='Digits on photographs, by make_digits.py', arguments=recorded),
            images=images, annotations=annotations,
            categories=[dict(id=d + 1, name=str(d), supercategory='digit') for d in range(10)])
    for split, content in contents.items():
        partial = out / 'annotations' / f'{split}.json.partial'
        partial.write_text(json.dumps(content) + '\n', encoding='utf-8')
        os.replace(partial, partial.with_suffix(''))


def _draw_split(folder, number, arguments, drawing, scans, photos, overwrite, report):
    """Write the images of split ``number``; returns its images and annotations in COCO's form."""
    from PIL import Image
    split = folder.name
    count, images, annotations = arguments[split], [], []
    # Images of an earlier, larger data set are removed only on request: no annotation names them.
    for path in folder.iterdir() if overwrite else ():
        if re.fullmatch(r'[0-9]{6}\.png', path.name) and int(path.stem) > count:
            path.unlink()
    for index in range(1, count + 1):
        # A separate generator: image i does not depend on the counts.
        rng = np.random.default_rng([arguments['seed'], number, index])
        image, drawn = draw_image(rng, scans, photos, **drawing)
        name, (height, width) = f'{index:06d}.png', image.shape[:2]
        Image.fromarray(image).save(folder / name)
        images.append(dict(id=index, file_name=name, width=width, height=height))
        annotations += [dict(id=len(annotations) + i, image_id=index, **digit)
                        for i, digit in enumerate(drawn, 1)]
        if index % PROGRESS_EVERY == 0 or index == count:
            report(f'{split}: {index} of {count} images')
    return images, annotations


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the command line; user errors end the process with status 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.error = lambda text: parser.exit(  # type: ignore[method-assign,assignment]
        # The message alone, without argparse's usage text.
        2, f'{parser.prog}: error: {" ".join(text.split())}\n')
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument('out', nargs='?', default=argparse.SUPPRESS, help='output folder')
    folder.add_argument('--out', default='data/digits', help='the same, as an option')
    add = parser.add_argument
    for split, images in (('train', 'training'), ('val', 'validation'), ('test', 'test')):
        add(f'--{split}', type=int, metavar='N', help=f'{images} images')
    add('--image-size', type=int, metavar='PX', help='side of an image in pixels')
    add('--seed', type=int, help='seed of the pictures')
    pair: Dict[str, Any] = dict(nargs=2, metavar=('MIN', 'MAX'))
    add('--digit-size', type=int, help='side of a digit in pixels', **pair)
    add('--digits', type=int, help='digits in an image', **pair)
    add('--darkness', type=float, help='share of its brightness that the photograph keeps', **pair)
    add('--masks', choices=list(MASKS), help='form of the masks; polygons fill holes')
    add('--overwrite', action='store_true',
        help='replace a data set that was made with other arguments, or without masks')
    parser.set_defaults(**dict(make_digits.__kwdefaults__ or {}, report=lambda line: print(line, flush=True)))
    options = parser.parse_args(argv)
    try:
        print(f'wrote {options.out}' if make_digits(**vars(options)) else
              f'{options.out} already has this data set; nothing to do')
    except UsageError as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
