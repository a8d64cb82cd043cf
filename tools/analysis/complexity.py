"""Multiply-adds, parameters and memory of each part of a detector, and the totals by refinements."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'projects'))
import deqdet_path

deqdet_path.installed_first(__file__)  # before all other imports

import argparse  # noqa: E402
from pathlib import Path  # noqa: E402

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet.launching.command_line import add_common_arguments, run  # noqa: E402  isort: skip
from deqdet.training.running import load_config  # noqa: E402  isort: skip
from deqdet.analysis import cost_of, write_figure, write_table  # noqa: E402
from deqdet.errors import UsageError  # noqa: E402
from matplotlib import pyplot  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config file; weights do not matter')
    parser.add_argument('--shape', type=int, nargs=2, default=(800, 1280), metavar=('H', 'W'),
                        help='size of the image in pixels, as the network sees it (default: 800 1280)')
    parser.add_argument('--refinements', type=int, nargs='+',
                        default=[0, 4, 5, 6, 8, 10, 15, 20, 21, 25, 50], help='numbers to give totals for')
    parser.add_argument('--modules', action='store_true', help='rows for the modules of the decoder, too')
    parser.add_argument('--out', type=Path, help='folder for the tables (default: analysis in the work dir)')
    parser.add_argument('--work-dir', help='default: ./work_dirs/CONFIG')
    add_common_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = load_config(args)
    if min(args.shape) < 32:
        raise UsageError(f'--shape {args.shape[0]} {args.shape[1]}: at least 32 pixels each')
    if min(args.refinements) < 0:
        raise UsageError(f'--refinements {min(args.refinements)}: must be 0 or more')
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='WARNING')
    if cfg.model.get('backbone'):
        cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    if not hasattr(getattr(model, 'roi_head', None), 'fixed_point_problem'):
        raise UsageError(f'config {args.config}: its decoder solves no fixed point; take a config with a '
                         'DEQDetRoIHead or a DEQ_SparseRoIHead')
    costs = cost_of(model, tuple(args.shape))
    out = args.out or Path(cfg.work_dir) / 'analysis'
    rows = []
    for part, cost in costs.items():
        rows.append(row(part, cost.layers, cost.products, cost.parameters / 1e6, cost.memory))
        if args.modules and part in ('initialisation', 'refinement'):
            rows += [row(f'{part}: {name}', *counts, '', '')
                     for name, counts in cost.modules.items()]
    print(f'\nOne image of {args.shape[0]}x{args.shape[1]}; 1e9 multiply-adds\n')
    print(write_table(out / 'complexity', rows))
    once = [costs[part] for part in ('backbone', 'neck', 'initialisation')]
    totals = []
    for count in args.refinements:
        layers, products = (
            sum(getattr(cost, kind) for cost in once) + count * getattr(costs['refinement'], kind)
            for kind in ('layers', 'products'))
        totals.append(dict(refinements=count, layers=layers, products=products, total=layers + products))
    print(write_table(out / 'complexity_by_refinements', totals))
    write_figure(out / 'complexity', draw(costs))
    print(f'written: {out}/complexity*.csv, .md and complexity.png')


def draw(costs):
    """Multiply-adds and memory of the parts."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.5), layout='constrained')
    parts = list(costs)
    layers = [costs[part].layers for part in parts]
    axes[0].bar(parts, layers, label='convolutions and linear layers')
    axes[0].bar(parts, [costs[part].products for part in parts], bottom=layers, label='products, attention')
    axes[0].set_ylabel('1e9 multiply-adds')
    axes[0].legend()
    axes[1].bar(parts, [costs[part].memory for part in parts], color='tab:green')
    axes[1].set_ylabel('peak memory, MB')
    return figure


def row(part, layers, products, parameters, memory):
    return {'part': part, 'layers': layers, 'products': products, 'total': layers + products,
            'parameters M': parameters, 'peak memory MB': memory}


if __name__ == '__main__':
    run(main)
