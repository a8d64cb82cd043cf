"""AP and refinements of a video: each frame solved from the start, or from the last frame's equilibrium.

The test data of the config are the frames, in order. A new folder begins a new clip. Both ways stop at the
same tolerance.
"""

import time
from pathlib import Path

import torch
from mmengine.utils import track_iter_progress

from ...analysis import Contest, add_arguments, open_detector, parse_tolerance, show_results
from ...errors import UsageError
from ...launching.command_line import Parser, keep_old_name, run, within

WAYS = ('cold', 'warm')


def _parse_args():
    parser = Parser(description=__doc__)
    add_arguments(parser)
    parser.add_argument('--tolerance', nargs='+', metavar='PART=LIMIT',
                        default=['content=0.2', 'position=0.5'],
                        help='limits below which a frame is solved (default: content=0.2 position=0.5)')
    keep_old_name(parser, parser.add_argument(
        '--steps', type=within(0), default=25, metavar='N',
        help='most refinements before the last one (default: 25)'), '--cap')
    return parser.parse_args()


@torch.no_grad()
def _watch(detector, settings):
    """Detections and refinements of both ways."""
    model, contest = detector.model, Contest(detector.evaluator)
    refinements = {way: [] for way in WAYS}
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
                spent = time.perf_counter() - begin
                last[way] = result.equilibrium
                refinements[way].append(result.equilibrium.refinements)
                contest.process(way, [sample], [result.pred_instances], spent)
    return contest, refinements


def main() -> None:
    args = _parse_args()
    limits = parse_tolerance(args.tolerance, name='--tolerance')
    with open_detector(args) as detector:
        head = detector.model.roi_head
        if not hasattr(head, 'predict_from_starts'):
            raise UsageError(f'config {args.config}: a {type(head).__name__} has no warm start: use a '
                             'config with a DEQDetRoIHead', 'unsupported-decoder')
        settings = head.prediction_with(tolerance=limits, refinement_steps=args.steps)
        contest, refinements = _watch(detector, settings)
        rows = [{'start': way, 'frames': len(counts), 'refinements': sum(counts) / len(counts),
                 'ms a frame': contest.mean_milliseconds(way), **contest.evaluate(way, len(counts))}
                for way, counts in refinements.items()]
        show_results(detector.out / 'warm_start', rows)


if __name__ == '__main__':
    run(main)
