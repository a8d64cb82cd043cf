"""Train the variants of a study, each with several seeds, and write their table.

It can be stopped and started again: it keeps finished trainings and continues interrupted ones. With
--no-training it only makes the table of the finished ones. A second table has 95 % intervals of AP, and of
the difference of each variant to the first, from bootstrap samples of the images and seeds.
"""

import os
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure
from mmengine.config import Config

from ...analysis import MAIN, outcome_of, read_study, show_results, summary
from ...analysis.intervals import interval_rows
from ...analysis.study import DETECTIONS, coco_metric_of
from ...errors import UsageError
from ...launching.command_line import Parser, run, within
from ...shipped import shipped_folder


def _parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument('study', help='study file, see configs/studies')
    parser.add_argument('--out', type=Path, help='folder for work dirs, table and figure (default: '
                        './work_dirs/STUDY)')
    parser.add_argument('--workers', type=within(1), default=1, help='workers of each training (default: 1)')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='train only these variants')
    parser.add_argument('--no-training', action='store_true', help='only make the table')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='settings for all trainings, for example the folder of the data')
    return parser.parse_args()


def _train(args, variant, seed, work_dir):
    """Run one training in separate processes; its output goes to a file."""
    work_dir.mkdir(parents=True, exist_ok=True)
    detections = [f'{key}.outfile_prefix={work_dir / DETECTIONS}'
                  for key, _ in coco_metric_of(Config.fromfile(str(variant.config)))]
    command = ['bash', str(shipped_folder() / 'tools/dist_train.sh'), str(variant.config), str(args.workers),
               '--resume', '--work-dir', str(work_dir), '--cfg-options', f'randomness.seed={seed}',
               *detections, *variant.words, *args.cfg_options]
    with open(work_dir / 'output.txt', 'a', encoding='utf-8') as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT,
                                env=dict(os.environ, PYTHON=sys.executable)).returncode
    if status:
        raise UsageError(f'training {variant.name!r} with seed {seed} ended with status {status}, see '
                         f'{work_dir}/output.txt; run the same command again, it continues', 'worker-failed')


def _draw(rows, outcomes):
    """Plot AP of each seed, and the mean; squares are masks."""
    figure = Figure(figsize=(7, 0.45 * len(rows) + 1), layout='constrained')
    axis = figure.subplots()
    for height, found in enumerate(f for f in outcomes.values() if f):
        for metric, mark in zip(MAIN, 'os'):
            values = [outcome.metrics[metric] for outcome in found if metric in outcome.metrics]
            axis.plot(values, [height] * len(values), mark, color='tab:blue', alpha=0.6)
            if values:
                axis.plot(sum(values) / len(values), height, '|', color='black', markersize=16)
    axis.set_yticks(range(len(rows)), [row['variant'] for row in rows])
    axis.invert_yaxis()
    axis.set_xlabel(f'{" and ".join(name for name in MAIN if name in rows[0])} of each seed, and their mean')
    axis.grid(axis='x', alpha=0.3)
    return figure


def main() -> None:
    args = _parse_args()
    variants, seeds = read_study(args.study)
    unknown = set(args.only or ()) - {variant.name for variant in variants}
    if unknown:
        raise UsageError(f'--only {unknown.pop()!r}: the variants of {args.study} are '
                         f'{", ".join(variant.name for variant in variants)}', 'bad-argument')
    out = args.out or Path('work_dirs') / Path(args.study).stem
    outcomes = {variant: [] for variant in variants}
    matched = {variant.name: {} for variant in variants}
    jobs = [(variant, seed) for seed in seeds for variant in variants]
    for number, (variant, seed) in enumerate(jobs, start=1):
        work_dir = out / variant.folder / f'seed{seed}'
        outcome = outcome_of(work_dir)
        if outcome is None and not args.no_training and (not args.only or variant.name in args.only):
            print(f'[{number}/{len(jobs)}] {variant.name}, seed {seed}: {work_dir}', flush=True)
            _train(args, variant, seed, work_dir)
            outcome = outcome_of(work_dir)
        if outcome is not None:
            outcomes[variant].append(outcome)
            matched[variant.name][seed] = outcome.matched
            metrics = ', '.join(f'{name} {outcome.metrics[name]:.3f}' for name in MAIN
                                if name in outcome.metrics)
            print(f'[{number}/{len(jobs)}] {variant.name}, seed {seed}: {metrics}, '
                  f'{outcome.minutes:.1f} min', flush=True)
    rows = summary(outcomes)
    if not rows:
        raise UsageError(f'no training of {args.study} is finished in {out}', 'missing-file')
    show_results(out / 'study', rows, _draw(rows, outcomes))
    intervals = interval_rows(matched)
    if intervals:
        show_results(out / 'intervals', intervals)


if __name__ == '__main__':
    run(main)
