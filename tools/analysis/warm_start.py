"""AP and refinements of a video with each frame solved anew, and from the last frame's equilibrium.

The test data of the config are the frames, in order; another folder begins another clip. Both ways stop by
the same tolerance.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'projects'))
import deqdet_path

deqdet_path.installed_first(__file__)  # before all other imports

import argparse  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet.launching.command_line import run  # noqa: E402  isort: skip
import torch  # noqa: E402
from deqdet.analysis import Contest, add_arguments, open_detector, parse_numbers, write_table  # noqa: E402
from deqdet.errors import UsageError  # noqa: E402
from deqdet.model.heads.solving import build_tolerance  # noqa: E402
from mmengine.utils import track_iter_progress  # noqa: E402

WAYS = ('cold', 'warm')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument('--tolerance', nargs='+', metavar='PART=LIMIT',
                        default=['content=0.2', 'position=0.5'],
                        help='a frame is solved below these limits (default: content=0.2 position=0.5)')
    parser.add_argument('--cap', type=int, default=25,
                        help='steps at which the tolerance stops at the latest (default: 25)')
    return parser.parse_args()


@torch.no_grad()
def watch(detector, settings):
    """Detections and refinements of both ways."""
    model, contest = detector.model, Contest(detector.evaluator)
    refinements, seconds = {way: [] for way in WAYS}, dict.fromkeys(WAYS, 0.0)
    last, clip = dict.fromkeys(WAYS), None
    for data in track_iter_progress((detector.dataloader, len(detector.dataloader))):
        data = model.data_preprocessor(data, False)
        for image, sample in zip(data['inputs'].split(1), data['data_samples']):
            folder = Path(sample.img_path).parent
            if folder != clip:
                last, clip = dict.fromkeys(WAYS), folder
            for way in WAYS:
                begin = time.perf_counter()
                result, = model.predict(
                    image, [sample.new()], start=[last[way] if way == 'warm' else None],
                    settings=settings)
                seconds[way] += time.perf_counter() - begin
                last[way] = result.equilibrium
                refinements[way].append(result.equilibrium.refinements)
                contest.process(way, [sample], [result.pred_instances])
    return contest, refinements, seconds


def main():
    args = parse_args()
    limits = parse_numbers(args.tolerance, name='--tolerance')
    build_tolerance(limits, name='--tolerance')
    with open_detector(args) as detector:
        head = detector.model.roi_head
        if not hasattr(head, 'equilibrium'):
            raise UsageError(f'config {args.config}: a {type(head).__name__} has no warm start; take a '
                             'config with a DEQDetRoIHead')
        settings = head.prediction_with(tolerance=limits, refinement_steps=args.cap)
        contest, refinements, seconds = watch(detector, settings)
        rows = [{'start': way, 'frames': len(counts), 'refinements': sum(counts) / len(counts),
                 'ms a frame': 1000 * seconds[way] / len(counts), **contest.evaluate(way, len(counts))}
                for way, counts in refinements.items()]
        print('\n' + write_table(detector.out / 'warm_start', rows))
        print(f'written: {detector.out}/warm_start.csv and .md')


if __name__ == '__main__':
    run(main)
