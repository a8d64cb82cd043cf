"""Make clips of digits that move slowly over photographs: a COCO data set whose images are frames in order.

They show what a video gains from starting at the last frame's equilibrium. Digits, photographs, boxes and
masks are as in the validation images of make_digits.py:

    python tools/dataset/make_clips.py data/clips

writes ``clip01/000001.png ...`` and ``clips.json``. The same arguments give the same bytes.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ...errors import UsageError
from ...launching.command_line import run
from .make_digits import BOX_ALPHA, COLOUR, extent, load_material, resize_alpha, rle_of

TRIES = 200


def _parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='output folder')
    parser.add_argument('--clips', type=int, default=8, help='number of clips (default: 8)')
    parser.add_argument('--frames', type=int, default=25, help='frames of each clip (default: 25)')
    parser.add_argument('--speed', type=float, default=1.0,
                        help='most pixels that a digit moves in a frame along each axis (default: 1)')
    parser.add_argument('--image-size', type=int, default=96, help='side of a frame in pixels (default: 96)')
    parser.add_argument('--digit-size', type=int, nargs=2, default=(24, 44), metavar=('MIN', 'MAX'),
                        help='side of a digit in pixels (default: 24 44)')
    parser.add_argument('--digits', type=int, nargs=2, default=(1, 3), metavar=('MIN', 'MAX'),
                        help='digits in a clip (default: 1 3)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the clips (default: 0)')
    args = parser.parse_args()
    if min(args.clips, args.frames, args.digits[0]) < 1 or args.speed < 0:
        parser.error('--clips, --frames and --digits must be 1 or more, --speed 0 or more')
    if not 8 <= args.digit_size[0] <= args.digit_size[1] <= args.image_size:
        parser.error('--digit-size must be from 8 to the image size, the smaller one first')
    return args


def _bounce(start, velocity, room, frames):
    """Whole coordinates of a point that bounces between 0 and ``room``, has shape (frames,)."""
    if not room:
        return np.zeros(frames, dtype=int)
    place = (start + velocity * np.arange(frames)) % (2 * room)
    return np.rint(np.where(place > room, 2 * room - place, place)).astype(int)


def _draw_clip(rng, scans, photos, args):
    """Frames, has shape (T, H, W, 3), and label and mask of each digit of a frame, as COCO's annotations."""
    size = args.image_size
    photo = photos[rng.integers(len(photos))]
    y, x = (int(rng.integers(side - size + 1)) for side in photo.shape[:2])
    background = photo[y:y + size, x:x + size] * rng.uniform(0.3, 0.7)
    frames = np.repeat(background[None], args.frames, axis=0)
    drawn = [[] for _ in range(args.frames)]
    taken = np.zeros((args.frames, size, size), dtype=bool)
    for _ in range(rng.integers(args.digits[0], args.digits[1] + 1)):
        chosen = rng.integers(len(scans.label))
        side = int(rng.integers(args.digit_size[0], args.digit_size[1] + 1))
        alpha = resize_alpha(scans.alpha[chosen], side)
        left, top, width, height = extent(alpha > 0)
        alpha = alpha[top:top + height, left:left + width]
        colour = rng.integers(COLOUR[0], COLOUR[1] + 1, size=3)
        for _ in range(TRIES):
            xs, ys = (_bounce(rng.uniform(0, size - side), rng.uniform(-args.speed, args.speed), size - side,
                             args.frames) for side in (width, height))
            places = [np.s_[t, ys[t]:ys[t] + height, xs[t]:xs[t] + width] for t in range(args.frames)]
            if not any(taken[place].any() for place in places):
                break
        else:
            break  # every direction touches another digit
        for t, place in enumerate(places):
            taken[place] = True
            frames[place] += alpha[..., None] * (colour - frames[place])
            mask = np.zeros((size, size), dtype=bool)
            mask[place[1:]] = alpha > BOX_ALPHA
            box = extent(mask)
            # The area of the box, as in make_digits.
            drawn[t].append(dict(category_id=int(scans.label[chosen]) + 1, iscrowd=0, bbox=box,
                                 area=box[2] * box[3], segmentation=rle_of(mask)))
    return np.rint(frames).astype(np.uint8), drawn


def main() -> None:
    args = _parse_args()
    try:
        scans, photos = load_material()
    except ValueError as error:  # make_digits has its own UsageError
        raise UsageError(str(error), 'missing-package') from error
    from PIL import Image
    images, annotations = [], []
    for clip in range(1, args.clips + 1):
        frames, drawn = _draw_clip(np.random.default_rng([args.seed, clip]), scans['val'], photos, args)
        folder = args.out / f'clip{clip:02d}'
        folder.mkdir(parents=True, exist_ok=True)
        for number, (frame, found) in enumerate(zip(frames, drawn), start=1):
            name = f'{folder.name}/{number:06d}.png'
            Image.fromarray(frame).save(args.out / name)
            height, width = frame.shape[:2]
            images.append(dict(id=len(images) + 1, file_name=name, height=height, width=width))
            annotations += [dict(id=len(annotations) + i, image_id=len(images), **digit)
                            for i, digit in enumerate(found, 1)]
    (args.out / 'clips.json').write_text(json.dumps(dict(
        images=images, annotations=annotations,
        categories=[dict(id=d + 1, name=str(d), supercategory='digit') for d in range(10)])) + '\n')
    print(f'wrote {len(images)} frames of {args.clips} clips to {args.out}')


if __name__ == '__main__':
    run(main)
