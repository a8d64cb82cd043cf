"""Costs of the variants of a study, measured in turn and kept in its folder."""

import json
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, Mapping, Optional, Sequence

from mmengine.device import get_device

from ...files.atomic import written_aside
from ..timing import surroundings
from .turns import Work, measure, predict, train
from .variants import Variant

_STEPS, _PREDICTIONS = 'steps.json', 'costs.json'
_ROUNDS = 10


def steps_of(out: Path, variants: Sequence[Variant], options: Sequence[str] = (), *, threads: int
             ) -> Dict[str, Dict[str, Any]]:
    """Training steps of the variants, measured unless ``OUT/steps.json`` has them.

    Args:
        out (Path): Folder of the study.
        variants (Sequence[Variant]): All variants.
        options (Sequence[str]): Words of ``--cfg-options`` for all.
        threads (int): Threads of a training.

    Returns:
        dict: By name of the variant: ``seconds`` of a step with the loading of its images, ``batches`` of an
            epoch, ``memory`` in GB.
    """
    return _measured(out / _STEPS, train, variants, options, {}, threads=threads)


def predictions_of(out: Path, checkpoints: Mapping[Variant, Path], options: Sequence[str] = (), *,
                   split: str) -> Dict[str, Dict[str, Any]]:
    """Predictions of trained variants, measured on one thread unless ``OUT/costs.json`` has them.

    Args:
        out (Path): Folder of the study.
        checkpoints (Mapping[Variant, Path]): A checkpoint of each variant.
        options (Sequence[str]): Words of ``--cfg-options`` for all.
        split (str): Where the images come from: ``val`` or ``test``.

    Returns:
        dict: By name of the variant: ``seconds`` of an image, ``parameters``, ``gflops``.
    """
    return _measured(out / _PREDICTIONS, predict, list(checkpoints), options,
                     {variant: dict(checkpoint=str(path), split=split)
                      for variant, path in checkpoints.items()}, threads=1)


def threads_of(out: Path) -> Optional[int]:
    """Threads of the training steps in ``OUT/steps.json``; None without the file."""
    return _read(out / _STEPS).get('surroundings', {}).get('threads')


def read_measured(out: Path) -> tuple:
    """What :func:`steps_of` and :func:`predictions_of` have measured before; empty without."""
    return tuple(_read(out / name).get('variants', {}) for name in (_STEPS, _PREDICTIONS))


def _measured(path: Path, work: Work, variants: Sequence[Variant], options: Sequence[str],
              more: Mapping[Variant, Mapping[str, Any]], *, threads: int) -> Dict[str, Dict[str, Any]]:
    """A variant that comes later is measured in turn with an older one, and scaled to its first time."""
    saved = _read(path)
    known = saved.get('variants', {})
    missing = [variant for variant in variants if variant.name not in known]
    if not missing:
        return known
    older = [variant for variant in variants if variant.name in known][:1]
    with TemporaryDirectory() as folder:
        arguments: Dict[str, Namespace] = {}
        for variant in [*older, *missing]:
            args = variant.arguments(options, work_dir=Path(folder) / variant.folder)
            vars(args).update(more.get(variant, {}))
            arguments[variant.name] = args
        seconds, facts = measure(work, arguments, threads=threads, rounds=_ROUNDS)
    scale = known[older[0].name]['seconds'] / seconds[older[0].name] if older else 1
    found = {variant.name: dict(seconds=scale * seconds[variant.name], **facts[variant.name])
             for variant in missing}
    where = surroundings(get_device())
    where['threads'] = threads
    with written_aside(path) as aside:
        Path(aside).write_text(json.dumps(
            dict(surroundings=saved.get('surroundings', where), rounds=_ROUNDS, variants={**known, **found}),
            indent=1))
    return {**known, **found}


def _read(path):
    return json.loads(path.read_text()) if path.is_file() else {}


def cost_rows(rows: Sequence[Mapping[str, Any]], steps: Mapping[str, Mapping[str, Any]],
              predictions: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> List[dict]:
    """Rows of the table of costs; empty cells where nothing was measured.

    Args:
        rows (Sequence[Mapping]): Rows of the study.
        steps (Mapping): Result of :func:`steps_of`.
        predictions (Mapping): Result of :func:`predictions_of`.
        metrics (Sequence[str]): Columns of the study to repeat.
    """
    found = []
    for row in rows:
        step, prediction = steps.get(row['variant'], {}), predictions.get(row['variant'], {})
        found.append({
            'variant': row['variant'], **{metric: row[metric] for metric in metrics if metric in row},
            'parameters M': _scaled(prediction, 'parameters', 1e-6), 'GFLOPs': prediction.get('gflops', ''),
            'image ms': _scaled(prediction, 'seconds', 1000), 'minutes': row['minutes'],
            'step ms': _scaled(step, 'seconds', 1000), 'memory GB': _scaled(step, 'memory', 1)})
    return found


def _scaled(found, key, factor):
    return factor * found[key] if key in found else ''
