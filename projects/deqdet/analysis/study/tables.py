"""Rows of the tables of a study."""

import statistics
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..evaluation import MAIN
from .outcomes import Outcome
from .schedule import MARKS, evaluated_near
from .variants import Variant


def summary(outcomes: Mapping[Variant, Sequence[Outcome]], *, validation: str = '',
            steps: Optional[Mapping[str, Mapping[str, Any]]] = None, minutes: Optional[float] = None
            ) -> List[dict]:
    """Rows of the table: means over the seeds. Variants without a finished training are omitted.

    Args:
        outcomes (Mapping): Trainings of each variant.
        validation (str): Name of the validation data, if they are not those of the metrics.
        steps (Mapping, optional): Measured training steps, by name of the variant.
        minutes (float, optional): Time that all trainings should take, as these steps.
    """
    rows = []
    for variant, found in outcomes.items():
        if not found:
            continue
        row: Dict[str, Any] = dict(variant=variant.name, epochs=found[0].epochs, seeds=len(found))
        for metric in found[0].metrics:
            values = [outcome.metrics[metric] for outcome in found]
            row[metric] = statistics.mean(values)
            if metric in MAIN:
                row[f'{metric} by seed'] = _by_seed(values)
        if validation:
            for metric in MAIN:
                values = [outcome.validations[outcome.epochs][metric] for outcome in found
                          if metric in outcome.validations.get(outcome.epochs, {})]
                if values:
                    row[f'{metric}, {validation}'] = statistics.mean(values)
        row['minutes'] = statistics.mean(outcome.minutes for outcome in found)
        if minutes is not None:
            step = (steps or {}).get(variant.name)
            planned = step and found[0].epochs * step['batches'] * step['seconds'] / 60
            row['planned minutes'] = planned or ''
            row['from equal time'] = f'{planned / minutes - 1:+.0%}' if planned else ''
        rows.append(row)
    return rows


def curve_rows(outcomes: Mapping[Variant, Sequence[Outcome]]) -> List[dict]:
    """AP on the validation data after parts of the training: means over the seeds.

    Each part has its evaluated epoch; cells are empty where no evaluation is near. Without any evaluation
    before the last one there are no rows.
    """
    rows, early = [], False
    for variant, found in outcomes.items():
        if not found:
            continue
        row: Dict[str, Any] = dict(variant=variant.name, seeds=len(found),
                                   minutes=statistics.mean(outcome.minutes for outcome in found))
        for name, mark in MARKS.items():
            epoch = evaluated_near(found[0].epochs, _evaluated(found), mark)
            early = early or bool(epoch) and mark < 1
            row[f'epoch at {name}'] = epoch or ''
            for metric in MAIN:
                if any(metric in at for outcome in found for at in outcome.validations.values()):
                    row[f'{metric} at {name}'] = statistics.mean(
                        outcome.validations[epoch][metric] for outcome in found) if epoch else ''
        rows.append(row)
    return rows if early else []


def _evaluated(found) -> Tuple[int, ...]:
    """Epochs with a validation in all trainings of a variant."""
    return tuple(sorted(set.intersection(*(set(outcome.validations) for outcome in found))))


def curve_of(found: Sequence[Outcome], metric: str) -> List[List[Tuple[float, float]]]:
    """Minutes and a metric at each evaluation: of each training, and at the end their mean."""
    lines = [[(outcome.minutes * epoch / outcome.epochs, outcome.validations[epoch][metric])
              for epoch in _evaluated(found) if metric in outcome.validations[epoch]] for outcome in found]
    means = [tuple(statistics.mean(values) for values in zip(*points)) for points in zip(*lines)]
    return [*lines, means]


def share_rows(outcomes: Mapping[Tuple[Variant, float], Sequence[Outcome]]) -> List[dict]:
    """Main metrics of each variant and share of the training images: means over the seeds."""
    rows = []
    for (variant, share), found in outcomes.items():
        if found:
            row: Dict[str, Any] = dict(variant=variant.name, share=share, epochs=found[0].epochs,
                                       seeds=len(found))
            for metric in MAIN:
                values = [outcome.metrics[metric] for outcome in found if metric in outcome.metrics]
                if values:
                    row.update({metric: statistics.mean(values), f'{metric} by seed': _by_seed(values)})
            rows.append(dict(row, minutes=statistics.mean(outcome.minutes for outcome in found)))
    return rows


def _by_seed(values):
    return ' '.join(f'{value:.3f}' for value in values)
