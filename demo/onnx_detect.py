"""Detect with a file of tools/export.py: numpy, OpenCV and onnxruntime are all it needs."""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

INTERPOLATION = dict(nearest=cv2.INTER_NEAREST, bilinear=cv2.INTER_LINEAR, bicubic=cv2.INTER_CUBIC,
                     area=cv2.INTER_AREA, lanczos=cv2.INTER_LANCZOS4)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', help='NAME.onnx')
    parser.add_argument('images', nargs='+', metavar='IMAGE')
    parser.add_argument('--score', type=float, default=0.3, help='show what is above this score (default: '
                                                                 '0.3)')
    parser.add_argument('--steps', type=int, help='for a file with given steps (default: those of its '
                                                  'config)')
    parser.add_argument('--out', type=Path, metavar='FOLDER', help='draw the boxes into copies of the images '
                                                                   'there')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all detections there')
    parser.add_argument('--threads', type=int, default=0, help='0: as many as there are cores (default)')
    return parser.parse_args()


def main():
    args = parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.model, options, providers=['CPUExecutionProvider'])
    about = session.get_modelmeta().custom_metadata_map
    classes = json.loads(about['classes'])
    everything = []
    for path in args.images:
        image = cv2.imread(path)
        if image is None:
            raise SystemExit(f'error: {path} is no image that OpenCV can read')
        boxes, scores, labels = detect(session, about, image, args.steps)
        everything.append(
            dict(image=path, boxes=boxes.tolist(), scores=scores.tolist(), labels=labels.tolist()))
        shown = scores > args.score
        print(f'{path}: {shown.sum()} above {args.score:g}')
        for box, score, label in zip(boxes[shown], scores[shown], labels[shown]):
            print(f'  {classes[label]} {score:.3f}  ' + ' '.join(f'{side:.1f}' for side in box))
            start, end = box.round().astype(int).reshape(2, 2).tolist()
            cv2.rectangle(image, start, end, (0, 255, 0), 1)
            cv2.putText(image, f'{classes[label]} {score:.2f}', (start[0], max(start[1] - 2, 8)),
                        cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 255, 0), 1)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(args.out / Path(path).name), image)
    if args.json:
        args.json.write_text(json.dumps(everything))


def detect(session, about, image, steps=None):
    """Detections of one image.

    Args:
        session (onnxruntime.InferenceSession): The file.
        about (dict): Its metadata.
        image (np.ndarray): BGR, uint8, has shape (H, W, 3).
        steps (int, optional): For a file with given steps.

    Returns:
        tuple: Boxes (x1, y1, x2, y2) in pixels of the image, has shape (D, 4), scores, best first, and
        labels, has shape (D,).
    """
    height, width = image.shape[:2]
    resized = resize(image, json.loads(about['resize']))
    size = np.array(resized.shape[:2])
    divisor = int(about['pad_size_divisor'])
    padded = -(-size // divisor) * divisor
    fixed = session.get_inputs()[0].shape[2:]
    if all(isinstance(side, int) for side in fixed):
        if (size > fixed).any():
            raise SystemExit(f'error: the image has {size[0]} x {size[1]} pixels after resizing, the file '
                             f'takes {fixed[0]} x {fixed[1]}: export it for any size')
        padded = fixed
    # What lies in the padding does not matter: the graph fills it itself.
    batch = np.zeros((1, 3, *padded), dtype=np.float32)
    batch[0, :, :size[0], :size[1]] = resized[..., ::-1].transpose(2, 0, 1)
    inputs = dict(images=batch, sizes=size[None].astype(np.int64))
    if about.get('steps') == 'given':
        inputs['steps'] = np.array(int(about['default_steps']) if steps is None else steps, dtype=np.int64)
    boxes, scores, labels = (found[0] for found in session.run(['boxes', 'scores', 'labels'], inputs))
    scale = np.array([size[1] / width, size[0] / height], dtype=np.float32)
    return boxes / np.tile(scale, 2), scores, labels


def resize(image, how):
    """The image in the size that the detector's test pipeline gives it."""
    if how is None:
        raise SystemExit('error: the test pipeline of this detector does more than resize: images have to be '
                         'prepared as it does, see resize in the metadata')
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
    return cv2.resize(image, size, interpolation=INTERPOLATION[how['interpolation']])


if __name__ == '__main__':
    main()
