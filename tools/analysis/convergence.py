"""Residuals of the equilibrium by iteration: mean and spread over images, relative and absolute."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'projects'))
import deqdet_path

deqdet_path.installed_first(__file__)  # before all other imports

import argparse  # noqa: E402

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet.launching.command_line import run  # noqa: E402  isort: skip
import torch  # noqa: E402
from deqdet.analysis import (  # noqa: E402
    add_arguments,
    follow,
    open_detector,
    parse_solver,
    write_figure,
    write_table,
)
from deqdet.model.state import content_residual, position_residual  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from mmengine.utils import ProgressBar  # noqa: E402

PARTS = dict(content=content_residual, position=position_residual)
UNITS = dict(relative='content length, box scale', absolute='content units, px')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument('--iterations', type=int, default=200, help='iterations to follow (default: 200)')
    parser.add_argument('--images', type=int, default=100,
                        help='images, the first of the test data (default: 100)')
    parser.add_argument('--solvers', nargs='+', default=['iterate'], metavar='NAME[:KEY=VALUE,...]',
                        help='for example: iterate anderson:memory=2 (default: iterate)')
    args = parser.parse_args()
    if args.iterations < 1 or args.images < 1:
        parser.error('--iterations and --images must be 1 or more')
    return args


def measures():
    """Every part's residuals, by (part, kind)."""
    return {(part, kind): lambda before, after, residual=residual, kind=kind: getattr(
        residual(before, after), kind) for part, residual in PARTS.items() for kind in UNITS}


@torch.no_grad()
def residuals_of(args, detector):
    """Residuals by solver, part and kind, has shape (iterations, images) each."""
    solvers = {word: parse_solver(word, name='--solvers') for word in args.solvers}
    found = {(word, *key): [] for word in solvers for key in measures()}
    seen, wanted = 0, min(args.images, len(detector.dataloader.dataset))
    progress = ProgressBar(wanted)
    for data in detector.dataloader:
        start, step, samples = detector.problem(data)
        for word, solver in solvers.items():
            path = follow(start, step, [args.iterations], solver=solver, measure=measures()).path
            for key, lengths in path.residuals.items():
                found[(word, *key)].append(lengths)
        seen += len(samples)
        progress.update(min(len(samples), wanted - progress.completed))
        if seen >= wanted:
            break
    return {key: torch.cat(lengths, dim=1)[:, :wanted].cpu() for key, lengths in found.items()}


def statistics(residuals):
    """A row for each iteration of each curve."""
    for (solver, part, kind), lengths in residuals.items():
        quantiles = torch.quantile(lengths, torch.tensor([0.1, 0.5, 0.9]), dim=1)
        spread = lengths.std(dim=1, correction=0)
        for t in range(len(lengths)):
            low, median, high = quantiles[:, t].tolist()
            yield dict(solver=solver, part=part, kind=kind, iteration=t + 1, mean=lengths[t].mean().item(),
                       std=spread[t].item(), p10=low, median=median, p90=high)


def draw(rows):
    """Mean, median (dashed) and the span from the 10th to the 90th percentile."""
    figure = Figure(figsize=(11, 4), layout='constrained')
    axes = figure.subplots(1, 2)
    for axis, (kind, unit) in zip(axes, UNITS.items()):
        for solver, part in dict.fromkeys((row['solver'], row['part']) for row in rows):
            curve = [row for row in rows
                     if (row['solver'], row['part'], row['kind']) == (solver, part, kind)]
            steps, mean, low, high = ([row[key] for row in curve]
                                      for key in ('iteration', 'mean', 'p10', 'p90'))
            median = [row['median'] for row in curve]
            line, = axis.plot(steps, mean, label=f'{part}, {solver}')
            axis.plot(steps, median, '--', color=line.get_color(), linewidth=1)
            axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axis.set_yscale('log')
        axis.set_xscale('log')
        axis.set_xlabel('iteration')
        axis.set_ylabel(f'{kind} residual ({unit})')
        axis.set_title('mean, median (dashed), 10th to 90th percentile of images', fontsize=9)
        axis.grid(alpha=0.3)
    axes[0].legend()
    return figure


def main():
    args = parse_args()
    with open_detector(args) as detector:
        residuals = residuals_of(args, detector)
        rows = list(statistics(residuals))
        write_table(detector.out / 'convergence', rows)
        shown = [row for row in rows if row['iteration'] in (1, 2, 5, 10, 20, 50, 100, args.iterations)]
        images = next(iter(residuals.values())).shape[1]
        print(f'\n\n{images} images\n')
        print(write_table(detector.out / 'convergence_summary', shown))
        write_figure(detector.out / 'convergence', draw(rows))
        print(f'written: {detector.out}/convergence.csv, .md, .png and convergence_summary.*')


if __name__ == '__main__':
    run(main)
