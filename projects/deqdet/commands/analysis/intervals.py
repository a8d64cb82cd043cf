"""AP and AP50 of detections with 95 % intervals, from bootstrap samples of the images.

Detections are in COCO's format for results, as tools/test.py writes them with
`--cfg-options test_evaluator.outfile_prefix=PREFIX` (PREFIX.bbox.json, PREFIX.segm.json), and
tools/detect.py with --annotations. Several files are trainings of the same detector with other seeds: the
table has the mean of their AP, and the intervals contain the seeds too. A single image has no interval.
"""

from pathlib import Path

from ...analysis.intervals import INTERVALS, Matched, bootstrap, interval_of
from ...data.evaluation_checks import annotation_file_findings
from ...data.findings import raise_first_error
from ...data.result_files import read_results
from ...files.disk import check_work_dir
from ...files.tables import show_results
from ...launching.command_line import Parser, run, within


def _parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument('annotations', type=Path, help='COCO annotations of the images')
    parser.add_argument('detections', type=Path, nargs='+', help='COCO results of these images')
    parser.add_argument('--masks', action='store_true', help='AP of masks instead of boxes')
    parser.add_argument('--limit', type=within(1), default=100, metavar='N',
                        help='count the best N detections of an image (default: 100, as COCO does)')
    parser.add_argument('--draws', type=within(1), default=1000, metavar='N',
                        help='number of bootstrap samples (default: 1000)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/intervals'), metavar='FILE',
                        help='table, without extension (default: work_dirs/intervals)')
    return parser.parse_args()


def main() -> None:
    args = _parse_args()
    kind = 'segm' if args.masks else 'bbox'
    for path in args.detections:
        read_results(path, args.annotations, masks=args.masks)
    raise_first_error(annotation_file_findings(str(args.annotations), masks=args.masks))
    check_work_dir(args.out.parent, option='--out')
    seeds = {number: Matched(args.annotations, path, kind, limit=args.limit)
             for number, path in enumerate(args.detections)}
    samples = bootstrap({'': seeds}, draws=args.draws)['']
    rows = []
    for column, metric in enumerate(INTERVALS[kind]):
        found = interval_of(samples[:, column])
        row = dict(metric=metric, images=seeds[0].images, seeds=len(seeds), value=found.value)
        if seeds[0].images > 1:
            row.update(low=found.low, high=found.high)
        rows.append(row)
    show_results(args.out, rows)


if __name__ == '__main__':
    run(main)
