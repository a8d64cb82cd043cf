"""Detect with a file of tools/export.py; it needs only numpy, OpenCV and onnxruntime.

Existing files are replaced only with --overwrite, inputs never. Exit status: 0 if every image was read, 3 if
some were not (the others are done), 2 if the command cannot run, 130 after Ctrl-C.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

INTERPOLATION = dict(nearest=cv2.INTER_NEAREST, bilinear=cv2.INTER_LINEAR, bicubic=cv2.INTER_CUBIC,
                     area=cv2.INTER_AREA, lanczos=cv2.INTER_LANCZOS4)
SOME_BROKEN, USAGE, INTERRUPTED = 3, 2, 130
# A complete file contains these bytes near its end; OpenCV would fill a truncated image with grey.
ENDS = {b'\xff\xd8': b'\xff\xd9', b'\x89PNG': b'IEND'}


class BrokenImageError(Exception):
    """An unusable image; the others can be used."""


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', help='NAME.onnx')
    parser.add_argument('images', nargs='+', metavar='IMAGE')
    parser.add_argument('--score', type=float, default=0.3, help='show detections above this score '
                                                                 '(default: 0.3)')
    parser.add_argument('--steps', type=int, help='for a file with given steps (default: those of its '
                                                  'config)')
    parser.add_argument('--out', type=Path, metavar='FOLDER', help='folder for copies of the images, with '
                                                                   'boxes and masks')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all detections to this file; masks '
                                                                  'as RLE of COCO, not compressed')
    parser.add_argument('--overwrite', action='store_true', help='replace results of an earlier run')
    parser.add_argument('--threads', type=int, default=0, help='0: one for each core (default)')
    return parser.parse_args()


def main():
    args = parse_args()
    images = list(dict.fromkeys(args.images))
    pictures = dict(zip(images, picture_paths(images, args.out))) if args.out else {}
    check_targets([*pictures.values(), *([args.json] if args.json else [])], [args.model, *images],
                  args.overwrite)
    session, about = open_model(args)
    everything, broken = [], []
    try:
        for path in images:
            try:
                image = read(path)
                boxes, scores, labels, masks = detect(session, about, image, args.steps)
            except BrokenImageError as error:
                broken.append(f'{path}: {error}')
                continue
            everything.append(
                dict(image=path, boxes=boxes.tolist(), scores=scores.tolist(), labels=labels.tolist()))
            if masks is not None:
                everything[-1]['masks'] = [run_lengths(mask) for mask in masks]
            shown = (scores > args.score).nonzero()[0]
            print(f'{path}: {len(shown)} above {args.score:g}')
            for number in shown:
                box, score, label = boxes[number], scores[number], labels[number]
                print(f'  {about["classes"][label]} {score:.3f}  ' + ' '.join(f'{side:.1f}' for side in box))
                draw(image, box, score, about['classes'][label], label)
                if masks is not None:  # mixed with green
                    image[masks[number]] = image[masks[number]] // 2 + np.array([0, 127, 0], np.uint8)
            if args.out:
                good, content = cv2.imencode(pictures[path].suffix, image)
                save(pictures[path], content.tobytes())
    except KeyboardInterrupt:
        print('stopped by Ctrl-C', file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:  # keep the finished results
        if args.json:
            save(args.json, json.dumps(everything).encode())
    if broken:
        print(f'{len(broken)} could not be read:', *broken, sep='\n  ', file=sys.stderr)
        sys.exit(SOME_BROKEN)


def fail(message):
    """Exit with a one-line message."""
    print(f'error: {message}', file=sys.stderr)
    sys.exit(USAGE)


def picture_paths(images, folder):
    """An output file for each image, numbered if names repeat, in a format that OpenCV can write."""
    taken = set()
    for image in map(Path, images):
        name = image.name if image.suffix.lower() in ('.jpg', '.jpeg', '.png') else f'{image.name}.png'
        path, number = folder / name, 1
        while path.name.lower() in taken:
            number += 1
            path = folder / f'{Path(name).stem}-{number}{Path(name).suffix}'
        taken.add(path.name.lower())
        yield path


def check_targets(targets, inputs, overwrite):
    """Outputs must not replace inputs, each other, or other files; their folders must be writable."""
    inputs = {os.path.realpath(path) for path in inputs}
    for target in targets:
        if os.path.realpath(target) in inputs:
            fail(f'{target} is an input and would be overwritten: use another folder or file')
        if os.path.isdir(target) or os.path.lexists(target) and not overwrite:
            fail(f'{target} already exists: use another folder or file, or add --overwrite')
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail(f'the folder {target.parent} cannot be created ({error.strerror}): use another one')
        if not os.access(target.parent, os.W_OK):
            fail(f'{target.parent} cannot be written: use another folder')
    if len({os.path.realpath(target) for target in targets}) < len(targets):
        fail(f'{targets[-1]} is the name of a picture and of the JSON file: use another name')


def save(path, content):
    """Write a file completely or not at all. A link is replaced, its target stays."""
    aside = path.with_name(f'.unfinished-{os.getpid()}')
    try:
        with open(aside, 'xb') as file:  # never a file of the user
            file.write(content)
        os.replace(aside, path)
    except OSError as error:
        fail(f'{path} cannot be written ({error.strerror})')


def open_model(args):
    """The session of a file, and its metadata."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    try:
        session = onnxruntime.InferenceSession(args.model, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime has its own error classes
        fail(f'{args.model} cannot be opened: {" ".join(str(error).split())}')
    about = dict(session.get_modelmeta().custom_metadata_map)
    if not {'classes', 'resize', 'pad_size_divisor'} <= set(about):
        fail(f'{args.model} was not written by tools/export.py: it lacks the metadata')
    about.update({key: json.loads(about[key]) for key in ('classes', 'resize')})
    if about['resize'] is None:
        fail('the test pipeline of this detector does more than resize, so this script cannot prepare its '
             'images')
    if args.steps is not None and (about.get('steps') != 'given' or args.steps < 0):
        fail(f'--steps {args.steps}: must be 0 or more, for a file that was exported with --steps given')
    return session, about


def read(path):
    """Read an image with OpenCV: BGR, uint8, has shape (H, W, 3)."""
    if os.path.exists(path) and not os.path.isfile(path):  # a named pipe would block forever
        raise BrokenImageError('not a regular file')
    try:
        content = Path(path).read_bytes()
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except OSError as error:
        raise BrokenImageError(error.strerror) from error
    except cv2.error as error:
        raise BrokenImageError(f'error of OpenCV: {error.err}') from error
    if any(content.startswith(start) and end not in content for start, end in ENDS.items()):
        raise BrokenImageError('truncated')
    if image is None:
        raise BrokenImageError('not an image that OpenCV can read' if content else 'empty file')
    return image


def draw(image, box, score, name, label):
    """Draw a box and its name. OpenCV draws only ASCII, so other names become the class number."""
    start, end = box.round().astype(int).reshape(2, 2).tolist()
    cv2.rectangle(image, start, end, (0, 255, 0), 1)
    cv2.putText(image, f'{name if name.isascii() else label} {score:.2f}', (start[0], max(start[1] - 2, 8)),
                cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 255, 0), 1)


def detect(session, about, image, steps=None):
    """Detect objects in one image.

    Args:
        session (onnxruntime.InferenceSession): The file.
        about (dict): Its metadata, see :func:`open_model`.
        image (np.ndarray): BGR, uint8, has shape (H, W, 3).
        steps (int, optional): For a file exported with ``--steps given``.

    Returns:
        tuple: Boxes (x1, y1, x2, y2) in pixels of the image, has shape (D, 4), scores, best first, and
        labels, has shape (D,), and masks, booleans, has shape (D, H, W), or None.
    """
    height, width = image.shape[:2]
    resized = resize(image, about['resize'])
    size = np.array(resized.shape[:2])
    divisor = int(about['pad_size_divisor'])
    padded = -(-size // divisor) * divisor
    fixed = session.get_inputs()[0].shape[2:]
    if all(isinstance(side, int) for side in fixed):
        if (size > fixed).any():
            raise BrokenImageError(f'it has {size[0]} x {size[1]} pixels after resizing, but the model needs '
                                   f'{fixed[0]} x {fixed[1]}: export it for any size')
        padded = fixed
    # The padding may hold any values: the graph fills it itself.
    batch = np.zeros((1, 3, *padded), dtype=np.float32)
    batch[0, :, :size[0], :size[1]] = resized[..., ::-1].transpose(2, 0, 1)
    inputs = dict(images=batch, sizes=size[None].astype(np.int64))
    if about.get('steps') == 'given':
        inputs['steps'] = np.array(int(about['default_steps']) if steps is None else steps, dtype=np.int64)
    names = ['boxes', 'scores', 'labels'] + ['masks'] * ('masks' in about)
    boxes, scores, *others = (found[0] for found in session.run(names, inputs))
    scale = np.array([size[1] / width, size[0] / height], dtype=np.float32)
    finite = np.isfinite(boxes).all(1) & np.isfinite(scores)  # untrained weights may give NaN
    boxes, scores = (boxes / np.tile(scale, 2))[finite], scores[finite]
    labels, *maps = (found[finite] for found in others)
    if not maps:
        return boxes, scores, labels, None
    if about['masks'] == 'boxes':
        probabilities = (in_box(one, box, height, width) for one, box in zip(maps[0], boxes))
    else:
        probabilities = (in_image(one, padded, size, height, width) for one in maps[0])
    masks = [each > float(about['mask_threshold']) for each in probabilities]
    return boxes, scores, labels, np.array(masks, dtype=bool).reshape(-1, height, width)


def in_box(one, box, height, width):
    """A mask that fills a box: probabilities of all pixels of the image, 0 outside the box."""
    left, top, right, bottom = box
    rows, columns = one.shape
    return weights(height, top, bottom, rows) @ one @ weights(width, left, right, columns).T


def weights(pixels, start, end, cells):
    """Bilinear weight of each cell between start and end in each pixel, has shape (pixels, cells)."""
    place = (np.arange(pixels) + 0.5 - start) * (cells / max(end - start, 1e-3)) - 0.5
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))).astype(np.float32)


def in_image(one, padded, size, height, width):
    """A mask of the whole input: probabilities of all pixels of the image. The logits are enlarged."""
    one = np.clip(one, 1e-7, 1 - 1e-7)
    logits = cv2.resize(np.log(one / (1 - one)), (int(padded[1]), int(padded[0])))
    logits = cv2.resize(np.ascontiguousarray(logits[:size[0], :size[1]]), (width, height))
    return 1 / (1 + np.exp(-logits))


def run_lengths(mask):
    """A mask as RLE of COCO: lengths of runs, column by column, of zeros and ones in turn."""
    flat = np.concatenate([[False], mask.flatten(order='F'), [False]])
    ends = (flat[1:] != flat[:-1]).nonzero()[0].tolist()
    if len(ends) == 0 or ends[-1] != mask.size:
        ends.append(mask.size)
    return dict(size=list(mask.shape), counts=np.diff([0, *ends]).tolist())


def resize(image, how):
    """Resize the image as the detector's test pipeline does."""
    height, width = image.shape[:2]
    if how.get('scale') and how['keep_ratio']:
        long, short = max(how['scale']), min(how['scale'])
        factor = min(long / max(height, width), short / min(height, width))
        size = int(width * factor + 0.5), int(height * factor + 0.5)
    elif how.get('scale'):
        width, height = how['scale']
        size = width, height
    elif how.get('scale_factor'):
        along_x, along_y = how['scale_factor']
        size = int(width * along_x + 0.5), int(height * along_y + 0.5)
    else:
        return image
    size = max(size[0], 1), max(size[1], 1)
    return cv2.resize(image, size, interpolation=INTERPOLATION[how['interpolation']])


if __name__ == '__main__':
    main()
