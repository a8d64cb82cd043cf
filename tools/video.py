"""Detect objects in a video, each frame from the equilibrium of the last, and write it with boxes.

A tolerance, by default that of the options below, ends each frame as soon as its boxes rest; what a frame
took is written into its corner.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'projects')]

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet import engine  # noqa: E402  isort: skip
import cv2  # noqa: E402
from deqdet.analysis import add_arguments, open_detector, parse_numbers  # noqa: E402
from deqdet.roi_heads.solving import build_tolerance  # noqa: E402
from deqdet.video import FrameDetector, Frames, VideoWriter  # noqa: E402
from mmdet.visualization import DetLocalVisualizer  # noqa: E402
from mmengine.utils import track_iter_progress  # noqa: E402


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument('video', type=Path, help='video file, or folder of frames')
    parser.add_argument('result', type=Path, help='the .mp4 to write')
    parser.add_argument('--score', type=float, default=0.3,
                        help='draw detections from this score (default: 0.3)')
    parser.add_argument('--tolerance', nargs='+', metavar='PART=LIMIT',
                        default=['content=0.1', 'position=0.25'],
                        help='a frame is solved below these limits (default: content=0.1 position=0.25)')
    parser.add_argument('--cap', type=int, default=25,
                        help='steps at which the tolerance stops at the latest (default: 25)')
    parser.add_argument('--cold', action='store_true', help='solve each frame from the beginning')
    return parser.parse_args()


def main():
    args = parse_args()
    limits = parse_numbers(args.tolerance, name='--tolerance')
    build_tolerance(limits, name='--tolerance')
    frames = Frames(args.video)
    writer = VideoWriter(args.result, frames.rate)
    with open_detector(args, data=False) as detector:
        head = detector.model.roi_head
        head.test_cfg.update(tolerance=limits, refinement_steps=args.cap)
        detect = FrameDetector(detector.model, detector.cfg, warm=not args.cold)
        painter = DetLocalVisualizer()
        painter.dataset_meta = dict(classes=detector.classes)
        counts, seconds = [], 0.0
        for frame in track_iter_progress((frames, len(frames))):
            begin = time.perf_counter()
            sample = detect(frame)
            seconds += time.perf_counter() - begin
            counts.append(sample.equilibrium.refinements)
            painter.add_datasample('frame', frame[..., ::-1].copy(), sample, draw_gt=False,
                                   pred_score_thr=args.score)
            painted = painter.get_image()[..., ::-1].copy()
            cv2.putText(painted, f'{counts[-1]}', (4, painted.shape[0] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                        (255, 255, 255), 1, cv2.LINE_AA)
            writer.write(painted)
        writer.close()
        print(f'\n{len(counts)} frames, {sum(counts) / len(counts):.2f} refinements and '
              f'{1000 * seconds / len(counts):.0f} ms a frame; written: {args.result}')


if __name__ == '__main__':
    engine.run(main)
