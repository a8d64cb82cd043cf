"""What the trainings of a study have left in their work dirs."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from mmengine.config import Config

from ...data.data_configs import leaves_of, metrics_of
from ..evaluation import short_name
from ..intervals import INTERVALS, Matched

#: Prefix of the files with detections in the work dir of a training: of its last validation, and of the test.
DETECTIONS = dict(val='detections', test='detections_test')
#: Folder in the work dir of a training for the test of its last checkpoint.
TEST = 'test'


@dataclass(frozen=True)
class Outcome:
    """Result of one training.

    Attributes:
        metrics (dict[str, float]): Metrics of the reported data.
        minutes (float): Time in training iterations.
        epochs (int): Epochs trained.
        matched (dict): Detections in the reported data by kind, ``bbox`` and ``segm``; empty if there are no
            files of them.
        validations (dict[int, dict]): Metrics of each validation, by epoch.
    """

    metrics: Dict[str, float]
    minutes: float
    epochs: int
    matched: Dict[str, Matched] = field(default_factory=dict)
    validations: Dict[int, Dict[str, float]] = field(default_factory=dict)


def outcome_of(work_dir: Path) -> Optional[Outcome]:
    """Result of a training on its validation data, from all runs in its work dir; None before its end."""
    config = _config_of(work_dir)
    if config is None:
        return None
    epochs = config.train_cfg.max_epochs
    seconds, validations = {}, {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            record = json.loads(line)
            if 'loss' in record and 'time' in record:
                # Mean of the iterations since the last record; a resumed run repeats some records.
                seconds[record['iter']] = record['time']
            elif any(key.endswith('mAP') for key in record):
                validations[record['step']] = _metrics(record)
    if epochs not in validations:
        return None
    steps = sorted(seconds)
    total = sum(seconds[step] * (step - before) for before, step in zip([0, *steps], steps))
    return Outcome(metrics=validations[epochs], minutes=total / 60, epochs=epochs,
                   matched=_matched(config, work_dir, 'val'), validations=validations)


def with_test(work_dir: Path, outcome: Outcome) -> Optional[Outcome]:
    """The same training with the results of its test; None if it is not tested yet."""
    config = _config_of(work_dir)
    for path in sorted(work_dir.glob(f'{TEST}/*/*.json'), reverse=True):
        try:
            record = json.loads(path.read_text())
        except ValueError:  # the writer was killed
            continue
        if any(key.endswith('mAP') for key in record):
            return replace(outcome, metrics=_metrics(record), matched=_matched(config, work_dir, 'test'))
    return None


def _metrics(record):
    return {short_name(key): value for key, value in record.items() if '/' in key}


def _config_of(work_dir):
    configs = sorted(work_dir.glob('*/vis_data/config.py'))
    return Config.fromfile(str(configs[-1])) if configs else None


def _matched(config, work_dir, split):
    files = {kind: work_dir / f'{DETECTIONS[split]}.{kind}.json' for kind in INTERVALS}
    return {kind: Matched(Path(metric['ann_file']), file, kind) for _, metric in coco_metric_of(config, split)
            for kind, file in files.items() if file.is_file()}


def checkpoint_of(work_dir: Path) -> Path:
    """The last checkpoint of a training."""
    return work_dir / Path((work_dir / 'last_checkpoint').read_text().strip()).name


def coco_metric_of(config: Config, split: str) -> List[Tuple[str, dict]]:
    """Key and config of the first metric of a split that reads COCO annotations; or nothing."""
    return [(key, metric) for key, metric, _ in metrics_of(config, split) if metric.get('ann_file')][:1]


def data_of(config: Config, split: str) -> str:
    """The annotation file of a split: that of its metric, or of its data set; empty if there is none."""
    files = [metric['ann_file'] for _, metric in coco_metric_of(config, split)]
    files += [str(dataset.get('ann_file') or '') for _, dataset in leaves_of(config, split)]
    return files[0] if files else ''


def name_of(config: Config, split: str) -> str:
    """Name of a split in tables: that of its annotation file, or ``val`` or ``test``."""
    return Path(data_of(config, split)).stem or split
