"""AP of boxes and masks, multiply-adds and latency by refinements and by solver (supplement, Tables 3 to 5).

Each solver runs once, up to the largest number; detections are selected on the way. Number k is what
prediction gives with `refinement_steps` = k - 1, since one refinement follows the solver; 0 is the
initialisation layer alone.
"""

from collections import defaultdict
from itertools import product
from typing import Any

import torch
from matplotlib.figure import Figure
from mmengine.utils import track_iter_progress

from ... import analysis
from ...analysis.timing import now
from ...launching.command_line import Parser, keep_old_name, run, within
from ...model.heads.solving import build_tolerance


def _parse_args():
    parser = Parser(description=__doc__)
    analysis.add_arguments(parser)
    parser.add_argument('--refinements', type=within(0), nargs='+', metavar='K',
                        default=[0, 1, 2, 4, 5, 6, 8, 10, 15, 20, 25, 50],
                        help='numbers of refinements (default: %(default)s)')
    parser.add_argument('--solvers', nargs='+', default=['iterate'], metavar='NAME[:KEY=VALUE,...]',
                        help='for example: iterate anderson:memory=2 anderson:memory=4 (default: iterate)')
    parser.add_argument('--tolerance', nargs='+', metavar='PART=LIMIT',
                        help='one more row for each solver, with a tolerance: content=0.2 position=0.7')
    keep_old_name(parser, parser.add_argument(
        '--steps', type=within(0), default=25, metavar='N',
        help='with --tolerance: most refinements before the last one (default: 25)'), '--cap')
    return parser.parse_args()


@torch.no_grad()
def _follow_all(args, detector):
    """One pass over the data: the contest, the refinements of each image by row, an input shape."""
    solvers = {word: analysis.parse_solver(word, name='--solvers') for word in args.solvers}
    tolerance = build_tolerance(
        args.tolerance and analysis.parse_tolerance(args.tolerance, name='--tolerance'), name='--tolerance')
    contest, refinements, shape = analysis.Contest(detector.evaluator), defaultdict(list), None

    def add(row, problem, state, counts, seconds):
        contest.process(row, problem.samples, problem.detections(state, min(counts)), seconds)
        refinements[row].extend(counts)

    for data in track_iter_progress((detector.dataloader, len(detector.dataloader))):
        begin = now()
        problem = analysis.fixed_point_problem(detector.model, data)
        before = now() - begin
        shape = shape or tuple(problem.samples[0].batch_input_shape)
        for word, solver in solvers.items():
            trajectory = analysis.follow(problem.start, problem.step, args.refinements, solver=solver)
            for count, state in trajectory.states.items():
                add((word, count), problem, state, [count] * len(problem.samples),
                    before + trajectory.seconds[count])
            if tolerance:
                begin = now()
                path = solver(problem.step, problem.start, args.steps, tolerance=tolerance)
                state = problem.step(path.final)
                steps = [count + 1 for count in path.steps or ()]
                add((word, 'tolerance'), problem, state, steps, before + now() - begin)
    return contest, refinements, shape


def _rows(contest, refinements, costs):
    for (solver, stop), counts in refinements.items():
        count = sum(counts) / len(counts)
        layers, products = analysis.total_of(costs, count)
        yield {'solver': solver, 'stop': stop if isinstance(stop, str) else 'steps', 'refinements': count,
               **contest.evaluate((solver, stop), len(counts)), 'GFLOPs': layers,
               'GFLOPs with products': layers + products, 'ms an image': contest.milliseconds((solver, stop))}


def _draw(rows):
    """Plot AP against refinements and against time; that of masks is dashed."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    axes = figure.subplots(1, 2, sharey=True)
    metrics = [name for name in analysis.MAIN if name in rows[0]] or [next(
        key for key in rows[0] if key not in ('solver', 'stop', 'refinements'))]
    solvers = dict.fromkeys(row['solver'] for row in rows)
    for (metric, style), solver in product(zip(metrics, ('o-', 'o--')), solvers):
        for axis, key in zip(axes, ('refinements', 'ms an image')):
            steps = [row for row in rows if row['solver'] == solver and row['stop'] == 'steps']
            line, = axis.plot([row[key] for row in steps], [row[metric] for row in steps], style,
                              label=f'{solver}, {metric}' if metrics[1:] else solver)
            for row in rows:
                if row['solver'] == solver and row['stop'] == 'tolerance':
                    axis.plot(row[key], row[metric], '*', markersize=12, color=line.get_color(),
                              markeredgecolor='black')
            axis.set_xlabel(key)
            axis.grid(alpha=0.3)
    axes[0].set_xscale('symlog', linthresh=1)
    axes[1].set_xscale('log')
    axes[0].set_ylabel(' and '.join(metrics))
    if any(row['stop'] == 'tolerance' for row in rows):
        axes[0].plot([], [], '*', markersize=12, color='white', markeredgecolor='black', label='by tolerance')
    axes[0].legend(fontsize=8)
    return figure


def main() -> None:
    args = _parse_args()
    with analysis.open_detector(args) as detector:
        contest, refinements, shape = _follow_all(args, detector)
        rows = list(_rows(contest, refinements, analysis.cost_of(detector.model, shape)))
        data: Any = detector.dataloader
        print(f'\n{len(data.dataset)} images; GFLOPs are 1e9 multiply-adds of an image of '
              f'{shape[0]}x{shape[1]}, times the median over batches of '
              f'{data.batch_sampler.batch_size}')
        analysis.show_results(detector.out / 'refinement_steps', rows, _draw(rows))


if __name__ == '__main__':
    run(main)
