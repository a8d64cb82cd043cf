"""Multiply-adds, parameters and memory of each part of a detector, and the totals by refinements."""

from pathlib import Path

from matplotlib.figure import Figure

from ...analysis import build_untrained, check_equilibrium, cost_of, show_results, total_of
from ...launching.command_line import Parser, add_common_arguments, run, within
from ...training.running import load_config


def _parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='path of the config file; weights do not matter')
    parser.add_argument('--shape', type=within(32), nargs=2, default=(800, 1280), metavar=('H', 'W'),
                        help='size of the image in pixels, as the network sees it (default: 800 1280)')
    parser.add_argument('--refinements', type=within(0), nargs='+',
                        default=[0, 4, 5, 6, 8, 10, 15, 20, 21, 25, 50], help='rows of the table of totals')
    parser.add_argument('--modules', action='store_true', help='also rows for the modules of the decoder')
    parser.add_argument('--out', type=Path, help='folder for the tables (default: analysis in the work dir)')
    parser.add_argument('--work-dir', help='default: ./work_dirs/CONFIG')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = _parse_args()
    cfg = load_config(args)
    model = build_untrained(cfg)
    check_equilibrium(getattr(model, 'roi_head', None), args.config)
    costs = cost_of(model, tuple(args.shape))
    out = args.out or Path(cfg.work_dir) / 'analysis'
    rows = []
    for part, cost in costs.items():
        rows.append(_row(part, cost.layers, cost.products, cost.parameters / 1e6, cost.memory))
        if args.modules and part not in ('backbone', 'neck'):
            rows += [_row(f'{part}: {name}', *counts, '', '')
                     for name, counts in cost.modules.items()]
    print(f'\nOne image of {args.shape[0]}x{args.shape[1]}; 1e9 multiply-adds')
    show_results(out / 'complexity', rows, _draw(costs))
    totals = []
    for count in args.refinements:
        layers, products = total_of(costs, count)
        totals.append(dict(refinements=count, layers=layers, products=products, total=layers + products))
    show_results(out / 'complexity_by_refinements', totals)


def _draw(costs):
    """Plot multiply-adds and memory of the parts."""
    figure = Figure(figsize=(10, 3.5), layout='constrained')
    axes, parts = figure.subplots(1, 2), list(costs)
    layers = [costs[part].layers for part in parts]
    axes[0].bar(parts, layers, label='convolutions and linear layers')
    axes[0].bar(parts, [costs[part].products for part in parts], bottom=layers, label='products, attention')
    axes[0].set_ylabel('1e9 multiply-adds')
    axes[0].legend()
    axes[1].bar(parts, [costs[part].memory for part in parts], color='tab:green')
    axes[1].set_ylabel('peak memory, MB')
    return figure


def _row(part, layers, products, parameters, memory):
    return {'part': part, 'layers': layers, 'products': products, 'total': layers + products,
            'parameters M': parameters, 'peak memory MB': memory}


if __name__ == '__main__':
    run(main)
