"""Make a small detection data set in COCO format: handwritten digits on photographs.

It downloads nothing. The digits are the 1,797 scans of scikit-learn's ``load_digits`` (8 x 8 pixels each),
the backgrounds are crops of its two sample photographs:

    python tools/dataset/make_digits.py data/digits

writes ``train/000001.png ...``, ``val/...``, ``annotations/train.json``, ``annotations/val.json``.

One fixed permutation splits the scans, for every seed: 1,400 for training, 397 for validation. No scan is in
both, but a writer may be, and both crop the same two photographs. The same arguments give the same bytes with
the same NumPy, Pillow and scikit-learn. It needs only these three packages, and pycocotools (or OpenCV for
``--masks polygons``).
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
TRAIN_SCANS = 1400
SPLIT_SEED = 1797
SCAN_SIDE = 8
PHOTO_SIDE = 427  # the shorter side; crops are not enlarged
BOX_ALPHA = 0.25  # box and mask hold the pixels with more ink than this
COLOUR = (150, 255)
PLACEMENT_TRIES = 100
MAX_COUNT = 999_999  # six digits in a file name
PROGRESS_EVERY = 250
# In a mask that is three times larger, the outermost pixels of an object are the first and the last third of
# pixels of the original: divided by three, they round to the edges.
_FINER = 3
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
    scans = {split: Scans(index, digits.images[index] / 16, digits.target[index])
             for split, index in zip(SPLITS, np.split(order, [TRAIN_SCANS]))}
    return scans, load_sample_images().images


def resize_alpha(scan: np.ndarray, side: int) -> np.ndarray:
    """Enlarge a scan of shape (8, 8), 0 to 1, to an alpha mask of shape (side, side), 0 to 1."""
    from PIL import Image
    image = Image.fromarray(scan.astype(np.float32))
    # Bicubic overshoots at sharp edges, hence the clip.
    return np.clip(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)), 0, 1)


def extent(mask: np.ndarray) -> Tuple[int, int, int, int]:
    """Find the smallest box (x, y, w, h) around the true pixels of a mask of shape (H, W)."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def rle_of(mask: np.ndarray) -> dict:
    """A mask as COCO's compressed run-length encoding.

    Args:
        mask (np.ndarray): Whether a pixel belongs to the object, has shape (H, W), bool.

    Returns:
        dict: ``size`` (H, W) and ``counts`` as text, ready for JSON.
    """
    from pycocotools import mask as coco_masks
    code = coco_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=[int(side) for side in code['size']], counts=code['counts'].decode('ascii'))


def polygons_of(mask: np.ndarray) -> List[List[int]]:
    """A mask as polygons along the edges of its pixels, one for each connected part. They fill holes.

    Args:
        mask (np.ndarray): Whether a pixel belongs to the object, has shape (H, W), bool.

    Returns:
        list[list[int]]: x and y of each corner, in pixels; pixel i reaches from i to i + 1.
    """
    import cv2
    finer = np.kron(mask, np.ones((_FINER, _FINER))).astype(np.uint8)
    contours, _ = cv2.findContours(finer, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for contour in contours:
        corners = np.rint(contour[:, 0] / _FINER).astype(int)
        # Around an inner corner, several points of the contour round to the same corner.
        new = (corners != np.roll(corners, 1, axis=0)).any(axis=1)
        polygons.append(corners[new].ravel().tolist())
    return polygons


#: The forms of ``segmentation`` in COCO's format.
MASKS: Dict[str, Callable[[np.ndarray], Any]] = dict(rle=rle_of, polygons=polygons_of)


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
        image_size, digit_size, digits, darkness, masks: As in :func:`make_digits`.

    Returns:
        tuple: The image (RGB, uint8, shape (image_size, image_size, 3)), and the COCO annotation of each
        digit, without the ids of annotation and image.
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
    for name, least, most in (('train', 0, MAX_COUNT), ('val', 0, MAX_COUNT),
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


def _state_of(out, arguments, masks):
    """What is there: ``complete``, ``without masks`` (by an earlier version) or ``incomplete``."""
    complete, forms = True, set()
    for split in SPLITS:
        path = out / 'annotations' / f'{split}.json'
        if not path.exists():
            complete = False
            continue
        try:
            data = json.loads(path.read_text(encoding='utf-8'))
            found = dict(data['info']['arguments'])
            names = [image['file_name'] for image in data['images']]
            forms |= {_form_of(annotation.get('segmentation')) for annotation in data['annotations']}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f'{path} is not a file of this script') from None
        others = [(key, found.get(key), value) for key, value in arguments.items() if found.get(key) != value]
        others += [('masks', form, masks) for form in sorted(forms - {masks, 'none'})]
        if others or found.keys() != arguments.keys():
            other = ', '.join(f'{key} {old} instead of {new}' for key, old, new in others)
            raise UsageError(f'{out} has a data set of other arguments ({other})')
        complete = complete and all((out / split / name).is_file() for name in names)
    return 'incomplete' if not complete else 'without masks' if 'none' in forms else 'complete'


def _form_of(segmentation):
    return 'none' if not segmentation else 'rle' if isinstance(segmentation, dict) else 'polygons'


def make_digits(out: Union[str, Path], *, train: int = 1000, val: int = 200, image_size: int = 96,
                digit_size: Range = (24, 44), digits: Range = (1, 4),
                darkness: Range = (0.3, 0.7), seed: int = 0, masks: str = 'rle', overwrite: bool = False,
                report: Callable[[str], None] = lambda line: None) -> bool:
    """Make the data set, unless the folder already holds it.

    Masks (``segmentation``) are the pixels with the digit's alpha above 0.25. No digit covers another one, so
    nothing of them is hidden. Boxes are (x, y, w, h) in pixels around the masks; ``area`` is w * h. Digit d
    has the category id d + 1. Each annotation stores its ``scan`` in ``load_digits``.

    Args:
        out (str | Path): Folder of the data set.
        train, val (int): Number of training and of validation images.
        image_size (int): Side of an image in pixels.
        digit_size (Range): Side of a digit's mask in pixels.
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
    drawing = dict(image_size=int(image_size), digit_size=[int(v) for v in digit_size],
                   digits=[int(v) for v in digits], darkness=[float(v) for v in darkness])
    arguments = dict(version=VERSION, train=int(train), val=int(val), seed=int(seed), **drawing)
    _check_arguments(arguments)
    if masks not in MASKS:
        raise UsageError(f'--masks {masks} must be one of {", ".join(MASKS)}')
    try:
        try:
            state = _state_of(out, arguments, masks)
            if state == 'without masks' and not overwrite:
                report(f'{out} was made without masks: to add them, use --overwrite')
            if state == 'complete' or state == 'without masks' and not overwrite:
                return False
        except UsageError as error:
            if not overwrite:
                raise UsageError(f'{error}: use another folder, or add --overwrite') from None
        scans, photos = load_material()
        # A missing package shows now, before the old annotations are removed.
        MASKS[masks](np.ones((1, 1), dtype=bool))
        _write(out, arguments, dict(drawing, masks=masks), scans, photos, overwrite, report)
    except ImportError as error:
        raise UsageError(f'masks as {masks} need a package that is missing ({error}): pip install '
                         f'{"pycocotools" if masks == "rle" else "opencv-python-headless"}') from error
    except OSError as error:
        raise UsageError(f'the data set cannot be written to {out}: {error}') from error
    return True


def _write(out, arguments, drawing, scans, photos, overwrite, report):
    """Write images, then annotations."""
    from PIL import Image
    for folder in ('annotations', *SPLITS):
        (out / folder).mkdir(parents=True, exist_ok=True)
    # Removed before the first image: an unfinished folder must not look like a complete data set.
    for split in SPLITS:
        (out / 'annotations' / f'{split}.json').unlink(missing_ok=True)
    contents = {}
    for number, split in enumerate(SPLITS):
        count, images, annotations = arguments[split], [], []
        # Images of an earlier, larger data set. No annotation names them, so they do no harm. They are
        # removed only on request.
        for path in (out / split).iterdir() if overwrite else ():
            if re.fullmatch(r'[0-9]{6}\.png', path.name) and int(path.stem) > count:
                path.unlink()
        for index in range(1, count + 1):
            # A separate generator: image i does not depend on the counts.
            rng = np.random.default_rng([arguments['seed'], number, index])
            image, drawn = draw_image(rng, scans[split], photos, **drawing)
            name = f'{index:06d}.png'
            Image.fromarray(image).save(out / split / name)
            height, width = image.shape[:2]
            images.append(dict(id=index, file_name=name, width=width, height=height))
            annotations += [dict(id=len(annotations) + i, image_id=index, **digit)
                            for i, digit in enumerate(drawn, 1)]
            if index % PROGRESS_EVERY == 0 or index == count:
                report(f'{split}: {index} of {count} images')
        contents[split] = dict(
            info=dict(description='Digits on photographs, by make_digits.py', arguments=arguments),
            images=images, annotations=annotations,
            categories=[dict(id=d + 1, name=str(d), supercategory='digit') for d in range(10)])
    for split in SPLITS:
        path = out / 'annotations' / f'{split}.json'
        partial = path.with_name(path.name + '.partial')
        partial.write_text(json.dumps(contents[split]) + '\n', encoding='utf-8')
        os.replace(partial, path)


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the command line; user errors end the process with status 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    # Print the message alone, without argparse's usage text.
    parser.error = lambda text: parser.exit(  # type: ignore[method-assign,assignment]
        2, f'{parser.prog}: error: {" ".join(text.split())}\n')
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument('out', nargs='?', default=argparse.SUPPRESS, help='output folder')
    folder.add_argument('--out', default='data/digits', help='the same, as an option')
    add = parser.add_argument
    pair: Dict[str, Any] = dict(nargs=2, metavar=('MIN', 'MAX'))
    add('--train', type=int, metavar='N', help='training images')
    add('--val', type=int, metavar='N', help='validation images')
    add('--image-size', type=int, metavar='PX', help='side of an image in pixels')
    add('--digit-size', type=int, help='side of a digit in pixels', **pair)
    add('--digits', type=int, help='digits in an image', **pair)
    add('--darkness', type=float, help='share of its brightness that the photograph keeps', **pair)
    add('--seed', type=int, help='seed of the pictures')
    add('--masks', choices=list(MASKS), help='form of the masks; polygons fill holes')
    add('--overwrite', action='store_true',
        help='replace a data set that was made with other arguments, or without masks')
    parser.set_defaults(**(make_digits.__kwdefaults__ or {}))
    options = parser.parse_args(argv)
    options.report = lambda line: print(line, flush=True)
    try:
        written = make_digits(**vars(options))
    except UsageError as error:
        parser.error(str(error))
    print(f'wrote {options.out}' if written else
          f'{options.out} already has this data set; nothing to do')


if __name__ == '__main__':
    main()
