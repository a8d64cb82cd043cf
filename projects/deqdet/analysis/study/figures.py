"""Figures of a study."""

from typing import Any, Mapping, Optional, Sequence

from matplotlib.figure import Figure

from ..evaluation import MAIN
from .outcomes import Outcome
from .tables import curve_of
from .variants import Variant


def draw_seeds(outcomes: Mapping[Variant, Sequence[Outcome]], data: str) -> Figure:
    """Plot AP of each seed, and the mean; squares are masks.

    Args:
        outcomes (Mapping): Trainings of each variant.
        data (str): Name of the evaluated data.
    """
    trained = {variant: found for variant, found in outcomes.items() if found}
    figure = Figure(figsize=(7, 0.45 * len(trained) + 1), layout='constrained')
    axis = figure.subplots()
    for height, found in enumerate(trained.values()):
        for metric, mark in zip(MAIN, 'os'):
            values = [outcome.metrics[metric] for outcome in found if metric in outcome.metrics]
            axis.plot(values, [height] * len(values), mark, color='tab:blue', alpha=0.6)
            if values:
                axis.plot(sum(values) / len(values), height, '|', color='black', markersize=16)
    axis.set_yticks(range(len(trained)), [variant.name for variant in trained])
    axis.invert_yaxis()
    shown = [name for name in MAIN if name in next(iter(trained.values()))[0].metrics]
    axis.set_xlabel(f'{" and ".join(shown)} of each seed on {data}, and their mean')
    axis.grid(axis='x', alpha=0.3)
    return figure


def draw_curves(outcomes: Mapping[Variant, Sequence[Outcome]], data: str) -> Figure:
    """Plot AP against the minutes of training: a line for each variant, thin ones for its seeds."""
    shown = [name for name in MAIN if any(name in outcome.metrics for found in outcomes.values()
                                          for outcome in found)]
    figure = Figure(figsize=(6 * len(shown), 4), layout='constrained')
    for axis, metric in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown):
        for number, (variant, found) in enumerate(outcomes.items()):
            *seeds, mean = curve_of(found, metric) if found else [[]]
            if not mean:
                continue
            for line in seeds:
                axis.plot(*zip(*line), color=f'C{number}', linewidth=0.7, alpha=0.5)
            axis.plot(*zip(*mean), 'o-', color=f'C{number}', label=variant.name)
        axis.set_xlabel('minutes of training')
        axis.set_ylabel(f'{metric} on {data}')
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return figure


def draw_costs(rows: Sequence[Mapping[str, Any]], data: str) -> Optional[Figure]:
    """Plot AP against the time of an image; squares are masks. None if no time was measured."""
    rows = [row for row in rows if row['image ms']]
    shown = [name for name in MAIN if rows and name in rows[0]]
    if not shown:
        return None
    figure = Figure(figsize=(6, 4), layout='constrained')
    axis = figure.subplots()
    for number, row in enumerate(rows):
        for metric, mark in zip(shown, 'os'):
            axis.plot(row['image ms'], row[metric], mark, color=f'C{number}',
                      label=row['variant'] if metric == shown[0] else None)
    axis.set_xlim(0, 1.1 * max(row['image ms'] for row in rows))
    axis.set_xlabel('ms for an image, one thread')
    axis.set_ylabel(f'{" and ".join(shown)} on {data}')
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure
