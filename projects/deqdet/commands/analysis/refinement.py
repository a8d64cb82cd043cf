"""Show the refinement of images: boxes and masks by step, as a GIF and as a strip, and where queries look."""

from pathlib import Path
from typing import Any

from ... import analysis
from ...errors import UsageError
from ...launching.command_line import Parser, run, within


def _parse_args():
    parser = Parser(description=__doc__)
    analysis.add_arguments(parser)
    parser.add_argument('images', nargs='*', metavar='IMAGE',
                        help='image files; without any, an image of the test data of the config')
    parser.add_argument('--index', type=int, default=0,
                        help='which image of the test data, from 0 (default: 0)')
    parser.add_argument('--refinements', type=within(1), default=12, help='1 or more (default: 12)')
    parser.add_argument('--strip', type=int, nargs='+', metavar='K',
                        help='numbers of refinements to show side by side (default: 0 1 2 4 8 12)')
    parser.add_argument('--score', type=float, default=0.3, help='draw boxes above this score (default: 0.3)')
    parser.add_argument('--queries', type=within(1), default=3,
                        help='show the sampling points of this many queries, the best ones (default: 3)')
    parser.add_argument('--no-masks', action='store_true', help='draw no masks, if the model has them')
    parser.add_argument('--once', action='store_true', help='play the GIF only once')
    args = parser.parse_intermixed_args()  # images may come after options
    args.strip = args.strip or analysis.steps_of_a_strip(args.refinements)
    return args


def main() -> None:
    args = _parse_args()
    _check(args)
    with analysis.open_detector(args, data=not args.images) as detector:
        settings = detector.model.roi_head.prediction
        args.score = max(args.score, settings.score_thr)
        for line in analysis.left_out(settings):
            print(line)
        if not args.images:
            dataset: Any = detector.dataloader and detector.dataloader.dataset
            if not 0 <= args.index < len(dataset):
                raise UsageError(f'--index {args.index}: the test data have images 0 to {len(dataset) - 1}',
                                 'bad-argument')
            args.images = [dataset.get_data_info(args.index)['img_path']]
        for name, path in zip(_names(args.images), args.images):
            image = analysis.follow_image(
                detector.model, path, cfg=detector.cfg, classes=detector.classes,
                refinements=args.refinements, masks=not args.no_masks)
            _draw(image, detector.out / f'refinement_{name}', args)
            print(f'{path}: written: {detector.out}/refinement_{name}*')
            if not (image.detections[-1].scores > args.score).any():
                print(f'{path}: no box has a score above {args.score:g}; use a lower --score')
        if image.points is None:
            print(f'no picture of sampling points: a {type(detector.model.roi_head).__name__} has none')


def _draw(image, path, args):
    """Draw all pictures of an image."""
    frames = (analysis.box_frame(image, k, score=args.score) for k in range(image.refinements + 1))
    analysis.write_animation(path, frames, loop=not args.once)
    strip = analysis.box_strip(image, args.strip, score=args.score)
    analysis.write_figure(path.with_name(f'{path.name}_strip'), strip)
    steps = [k for k in args.strip if k > 0]
    if image.points is not None and steps:
        points = analysis.point_strip(image, steps, image.best_queries(args.queries, score=args.score))
        analysis.write_figure(path.with_name(f'{path.name}_points'), points)


def _check(args):
    wrong = [k for k in args.strip if not 0 <= k <= args.refinements]
    if wrong:
        raise UsageError(f'--strip {wrong[0]}: must be from 0 to --refinements {args.refinements}',
                         'bad-argument')
    if not 0 <= args.score < 1:
        raise UsageError(f'--score {args.score:g}: must be from 0 to below 1', 'bad-argument')


def _names(paths):
    """A file name for each image, numbered if names repeat."""
    given = []
    for path in paths:
        stem = Path(path).stem.replace('.', '_')
        again = sum(name == stem or name.startswith(f'{stem}~') for name in given)
        given.append(f'{stem}~{again + 1}' if again else stem)
    return given


if __name__ == '__main__':
    run(main)
