"""A study: one table of several variants of a config, each trained with several seeds."""

import json
import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from mmengine.config import Config

from ..data.data_configs import metrics_of
from ..errors import UsageError
from .evaluation import MAIN, short_name
from .intervals import INTERVALS, Matched

#: Prefix of the files with the detections of the last validation, in the work dir of a training.
DETECTIONS = 'detections'


@dataclass(frozen=True, eq=False)
class Variant:
    """One row of a study.

    Attributes:
        name (str): Name of the variant.
        config (Path): Config file.
        options (dict): Settings that override the config, by dotted key.
    """

    name: str
    config: Path
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of its work dirs."""
        return re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')

    @property
    def words(self) -> List[str]:
        """The options in the form of ``--cfg-options``."""
        return [f'{key}={json.dumps(value) if isinstance(value, (dict, bool)) else value}'.replace(' ', '')
                for key, value in self.options.items()]


@dataclass(frozen=True)
class Outcome:
    """Result of one training.

    Attributes:
        metrics (dict[str, float]): Metrics of the last validation.
        minutes (float): Time in training iterations.
        epochs (int): Epochs trained.
        matched (dict): Detections of the last validation by kind, ``bbox`` and ``segm``; empty if the
            training did not write them.
    """

    metrics: Dict[str, float]
    minutes: float
    epochs: int
    matched: Dict[str, Matched] = field(default_factory=dict)


def read_study(path: str) -> tuple:
    """Variants and seeds of a study file.

    Args:
        path (str): A config with ``study``: ``seeds`` and ``variants``; each variant has ``name``, ``config``
            (relative to the file) and optionally ``options``.

    Returns:
        tuple[list[Variant], list[int]]: Variants and seeds.

    Raises:
        UsageError: If the file or a config in it is missing, if the file has no study, or if two variants
            have the same folder.
    """
    if not Path(path).is_file():
        raise UsageError(f'study file {path} does not exist (searched from {Path.cwd()})', 'missing-file')
    study = Config.fromfile(path).get('study')
    if not study or not study.get('variants') or not study.get('seeds'):
        raise UsageError(f'{path} has no study=dict(seeds=[...], variants=[dict(name=..., config=...), ...])',
                         'bad-config')
    variants = [Variant(name=variant.name, config=Path(path).parent / variant.config,
                        options=variant.get('options', {})) for variant in study.variants]
    for variant in variants:
        if not variant.config.is_file():
            raise UsageError(f'{path}: config {variant.config} of variant {variant.name!r} does not exist',
                             'missing-file')
    folders = [variant.folder for variant in variants]
    for variant in variants:
        if folders.count(variant.folder) > 1:
            raise UsageError(f'{path}: another variant has the same folder as {variant.name!r}, '
                             f'{variant.folder}: rename one', 'bad-config')
    return variants, list(study.seeds)


def outcome_of(work_dir: Path) -> Optional[Outcome]:
    """Result of a training, from all runs in its work dir; None before its last validation."""
    configs = sorted(work_dir.glob('*/vis_data/config.py'))
    if not configs:
        return None
    config = Config.fromfile(str(configs[-1]))
    epochs = config.train_cfg.max_epochs
    seconds, metrics = {}, None
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            record = json.loads(line)
            if 'loss' in record and 'time' in record:
                # Mean of the iterations since the last record; a resumed run repeats some records.
                seconds[record['iter']] = record['time']
            elif record.get('step') == epochs and any(key.endswith('mAP') for key in record):
                metrics = {short_name(key): value for key, value in record.items() if '/' in key}
    if metrics is None:
        return None
    steps = sorted(seconds)
    total = sum(seconds[step] * (step - before) for before, step in zip([0, *steps], steps))
    return Outcome(metrics=metrics, minutes=total / 60, epochs=epochs, matched=_matched(config, work_dir))


def _matched(config: Config, work_dir: Path) -> Dict[str, Matched]:
    files = {kind: work_dir / f'{DETECTIONS}.{kind}.json' for kind in INTERVALS}
    return {kind: Matched(Path(metric['ann_file']), file, kind) for _, metric in coco_metric_of(config)
            for kind, file in files.items() if file.is_file()}


def coco_metric_of(config: Config) -> List[Tuple[str, dict]]:
    """Key and config of the first metric of the validation that reads COCO annotations; or nothing."""
    return [(key, metric) for key, metric, _ in metrics_of(config, 'val') if metric.get('ann_file')][:1]


def summary(outcomes: Mapping[Variant, Sequence[Outcome]]) -> List[dict]:
    """Rows of the table: means over the seeds. Variants without a finished training are omitted."""
    rows = []
    for variant, found in outcomes.items():
        if not found:
            continue
        row = dict(variant=variant.name, epochs=found[0].epochs, seeds=len(found))
        for metric in found[0].metrics:
            values = [outcome.metrics[metric] for outcome in found]
            row[metric] = statistics.mean(values)
            if metric in MAIN:
                row[f'{metric} by seed'] = ' '.join(f'{value:.3f}' for value in values)
        row['minutes'] = statistics.mean(outcome.minutes for outcome in found)
        rows.append(row)
    return rows
