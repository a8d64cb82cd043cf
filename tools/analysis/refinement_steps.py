"""AP, multiply-adds and latency by number of refinements and by solver (supplement, Tables 3 to 5).

Each solver goes along its path once, as far as the largest number; detections are selected on the way. Number
k is what prediction gives with `refinement_steps` = k - 1, since one refinement follows the solver; 0 is the
initialisation layer alone.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'projects'))
import deqdet_path

deqdet_path.installed_first(__file__)  # before all other imports

import argparse  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet.commands.common import run  # noqa: E402  isort: skip
import torch  # noqa: E402
from deqdet.analysis import (  # noqa: E402
    Contest,
    add_arguments,
    cost_of,
    follow,
    open_detector,
    parse_solver,
    parse_tolerance,
    write_figure,
    write_table,
)
from matplotlib.figure import Figure  # noqa: E402
from mmengine.utils import track_iter_progress  # noqa: E402


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument('--refinements', type=int, nargs='+', metavar='K',
                        default=[0, 1, 2, 4, 5, 6, 8, 10, 15, 20, 25, 50],
                        help='numbers of refinements (default: %(default)s)')
    parser.add_argument('--solvers', nargs='+', default=['iterate'], metavar='NAME[:KEY=VALUE,...]',
                        help='for example: iterate anderson:memory=2 anderson:memory=4 (default: iterate)')
    parser.add_argument('--tolerance', nargs='+', metavar='PART=LIMIT',
                        help='one more row a solver, stopped by these limits: content=0.2 position=0.7')
    parser.add_argument('--cap', type=int, default=25,
                        help='steps at which the tolerance stops at the latest (default: 25)')
    args = parser.parse_args()
    if min(args.refinements) < 0 or args.cap < 0:
        parser.error('--refinements and --cap must be 0 or more')
    return args


def now():
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Table:
    """Detections, refinements and times of every row."""

    def __init__(self, detector):
        self.detector = detector
        self.contest = Contest(detector.evaluator)
        self.refinements, self.seconds, self.images = {}, {}, 0

    def add(self, row, state, samples, refinements, seconds):
        """Take a batch of one row; ``refinements`` and ``seconds`` are those of all its images."""
        select = self.detector.model.roi_head.select
        self.contest.process(row, samples, [
            select(logits, box, sample.metainfo, True)
            for logits, box, sample in zip(state.logits, state.box, samples)])
        self.refinements.setdefault(row, []).extend(refinements)
        self.seconds.setdefault(row, []).append(seconds / len(samples))

    def rows(self, costs):
        """Rows with their metrics."""
        once = sum(costs[part].layers for part in ('backbone', 'neck', 'initialisation'))
        more = sum(costs[part].products for part in ('backbone', 'neck', 'initialisation'))
        for (solver, stop), counts in self.refinements.items():
            count = sum(counts) / len(counts)
            # The first batch warms the machine up.
            times = sorted(self.seconds[solver, stop][1:] or self.seconds[solver, stop])
            layers = once + count * costs['refinement'].layers
            yield {'solver': solver, 'stop': stop if isinstance(stop, str) else 'steps', 'refinements': count,
                   **self.contest.evaluate((solver, stop), len(counts)), 'GFLOPs': layers,
                   'GFLOPs with products': layers + more + count * costs['refinement'].products,
                   'ms an image': 1000 * times[len(times) // 2]}


@torch.no_grad()
def fill(args, detector):
    """Go through the data once."""
    solvers = {word: parse_solver(word, name='--solvers') for word in args.solvers}
    tolerance = parse_tolerance(args.tolerance, name='--tolerance') if args.tolerance else None
    table, shape = Table(detector), None
    for data in track_iter_progress((detector.dataloader, len(detector.dataloader))):
        begin = now()
        start, step, samples = detector.problem(data)
        before = now() - begin
        shape = shape or tuple(samples[0].batch_input_shape)
        for word, solver in solvers.items():
            trajectory = follow(start, step, args.refinements, solver=solver)
            for count, state in trajectory.states.items():
                table.add((word, count), state, samples, [count] * len(samples),
                          before + trajectory.seconds[count])
            if tolerance:
                begin = now()
                path = solver(step, start, args.cap, tolerance=tolerance)
                state = step(path.final)
                steps = path.steps or ()  # there is a tolerance, so there are
                table.add((word, 'tolerance'), state, samples, [count + 1 for count in steps],
                          before + now() - begin)
    return table, shape


def draw(rows):
    """AP against refinements and against time."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    axes = figure.subplots(1, 2, sharey=True)
    metric = 'AP' if 'AP' in rows[0] else next(
        key for key in rows[0] if key not in ('solver', 'stop', 'refinements'))
    for solver in dict.fromkeys(row['solver'] for row in rows):
        for axis, key in zip(axes, ('refinements', 'ms an image')):
            steps = [row for row in rows if row['solver'] == solver and row['stop'] == 'steps']
            line, = axis.plot([row[key] for row in steps], [row[metric] for row in steps], 'o-', label=solver)
            for row in rows:
                if row['solver'] == solver and row['stop'] == 'tolerance':
                    axis.plot(row[key], row[metric], '*', markersize=12, color=line.get_color(),
                              markeredgecolor='black')
            axis.set_xlabel(key)
            axis.grid(alpha=0.3)
    axes[0].set_xscale('symlog', linthresh=1)
    axes[1].set_xscale('log')
    axes[0].set_ylabel(metric)
    if any(row['stop'] == 'tolerance' for row in rows):
        axes[0].plot([], [], '*', markersize=12, color='white', markeredgecolor='black', label='by tolerance')
    axes[0].legend(fontsize=8)
    return figure


def main():
    args = parse_args()
    with open_detector(args) as detector:
        table, shape = fill(args, detector)
        rows = list(table.rows(cost_of(detector.model, shape)))
        data: Any = detector.dataloader
        print(f'\n{len(data.dataset)} images; GFLOPs are 1e9 multiply-adds of an image of '
              f'{shape[0]}x{shape[1]}, times the median over batches of '
              f'{data.batch_sampler.batch_size}\n')
        print(write_table(detector.out / 'refinement_steps', rows))
        write_figure(detector.out / 'refinement_steps', draw(rows))
        print(f'written: {detector.out}/refinement_steps.csv, .md and .png')


if __name__ == '__main__':
    run(main)
