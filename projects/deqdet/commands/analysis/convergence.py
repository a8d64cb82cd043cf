"""Residuals of the equilibrium by iteration: mean and spread over images, relative and absolute."""

from itertools import islice

import torch
from matplotlib.figure import Figure
from mmengine.utils import track_iter_progress

from ... import analysis
from ...launching.command_line import Parser, keep_old_name, run, within
from ...model.state import content_residual, position_residual

PARTS = dict(content=content_residual, position=position_residual)
UNITS = dict(relative='content length, box scale', absolute='content units, px')


def _parse_args():
    parser = Parser(description=__doc__)
    analysis.add_arguments(parser)
    keep_old_name(parser, parser.add_argument(
        '--refinements', type=within(1), default=200,
        help='refinements to follow (default: 200)'), '--iterations')
    parser.add_argument('--images', type=within(1), default=100,
                        help='number of images, the first of the test data (default: 100)')
    parser.add_argument('--solvers', nargs='+', default=['iterate'], metavar='NAME[:KEY=VALUE,...]',
                        help='for example: iterate anderson:memory=2 (default: iterate)')
    return parser.parse_args()


def _measures():
    """Every part's residuals, by (part, kind)."""
    return {(part, kind): lambda before, after, residual=residual, kind=kind: getattr(
        residual(before, after), kind) for part, residual in PARTS.items() for kind in UNITS}


@torch.no_grad()
def _residuals_of(args, detector):
    """Residuals by solver, part and kind; each has shape (iterations, images)."""
    solvers = {word: analysis.parse_solver(word, name='--solvers') for word in args.solvers}
    found = {(word, *key): [] for word in solvers for key in _measures()}
    loader = detector.dataloader
    batches = min(-(-args.images // loader.batch_sampler.batch_size), len(loader))
    for data in track_iter_progress((islice(loader, batches), batches)):
        problem = analysis.fixed_point_problem(detector.model, data)
        for word, solver in solvers.items():
            path = analysis.follow(problem.start, problem.step, [args.refinements], solver=solver,
                                   measure=_measures()).path
            for key, lengths in path.residuals.items():
                found[(word, *key)].append(lengths)
    return {key: torch.cat(lengths, dim=1)[:, :args.images].cpu() for key, lengths in found.items()}


def _statistics(residuals):
    """A row for each iteration of each curve."""
    for (solver, part, kind), lengths in residuals.items():
        quantiles = torch.quantile(lengths, torch.tensor([0.1, 0.5, 0.9]), dim=1)
        spread = lengths.std(dim=1, correction=0)
        for t in range(len(lengths)):
            low, median, high = quantiles[:, t].tolist()
            yield dict(solver=solver, part=part, kind=kind, iteration=t + 1, mean=lengths[t].mean().item(),
                       std=spread[t].item(), p10=low, median=median, p90=high)


def _draw(rows):
    """Plot mean, median (dashed) and the span from the 10th to the 90th percentile."""
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


def main() -> None:
    args = _parse_args()
    with analysis.open_detector(args) as detector:
        residuals = _residuals_of(args, detector)
        rows = list(_statistics(residuals))
        analysis.write_table(detector.out / 'convergence', rows)
        analysis.write_figure(detector.out / 'convergence', _draw(rows))
        shown = [row for row in rows if row['iteration'] in (1, 2, 5, 10, 20, 50, 100, args.refinements)]
        images = next(iter(residuals.values())).shape[1]
        print(f'\n\n{images} images; all refinements: {detector.out}/convergence.csv, .md and .png')
        analysis.show_results(detector.out / 'convergence_summary', shown)


if __name__ == '__main__':
    run(main)
