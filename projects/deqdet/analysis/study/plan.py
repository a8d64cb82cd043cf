"""What a study sets in each training: its length, and its share of the images."""

from math import ceil
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from ...errors import UsageError
from ...launching.explaining import explain
from ...training.config_checks import check_config
from .outcomes import coco_metric_of, data_of
from .schedule import epochs_in, interval_of, schedule_options
from .shares import share_options
from .variants import Study, Variant


class Job(NamedTuple):
    """One training of a study."""

    variant: Variant
    share: float
    seed: int
    work_dir: Path

    def __str__(self) -> str:
        share = f', {self.share:.0%} of the images' if self.share < 1 else ''
        return f'{self.variant.name}{share}, seed {self.seed}'


def jobs_of(study: Study, out: Path) -> List[Job]:
    """The trainings in their order: first those with all images, seed by seed.

    Args:
        study (Study): The study.
        out (Path): Its folder.
    """
    return [Job(variant, share, seed, out / variant.folder / (f'share{share:g}' if share < 1 else '')
                / f'seed{seed}')
            for share in reversed(study.shares) for seed in study.seeds for variant in study.variants]


def settings_of(study: Study, job: Job, steps: Mapping[str, Mapping[str, Any]], options: Sequence[str], *,
                workers: int) -> Dict[str, object]:
    """Settings of a training by dotted key; none if it is as its config says.

    Args:
        study (Study): The study.
        job (Job): The training.
        steps (Mapping): Measured training steps by name of the variant, if the study has a time.
        options (Sequence[str]): Words of ``--cfg-options`` for all trainings.
        workers (int): Workers of the training.

    Raises:
        UsageError: If the config does not allow it, or if an option sets the same.
    """
    variant = job.variant
    if study.minutes is None and variant.epochs is None and job.share == 1:
        return {}
    for word in options:
        if word.partition('=')[0] in ('train_cfg.max_epochs', 'train_cfg.val_interval'):
            raise UsageError(f'--cfg-options {word}: the study sets this itself, by epochs, minutes or '
                             'shares', 'bad-argument')
    cfg = variant.read(options)
    if study.minutes is not None:
        step = steps[variant.name]
        epochs = epochs_in(study.minutes, seconds=step['seconds'], batches=ceil(step['batches'] / workers))
    else:
        epochs = variant.epochs or (cfg.get('train_cfg') or {}).get('max_epochs', 1)
    settings: Dict[str, object] = {}
    if job.share < 1:
        settings, images, count = share_options(cfg, job.share, name=variant.name)
        size = workers * cfg.train_dataloader.get('batch_size', 1)
        epochs = max(1, round(epochs * ceil(count / size) / ceil(images / size)))
    interval = epochs if study.minutes is None else interval_of(epochs)
    settings.update(schedule_options(cfg, epochs, interval=interval, name=str(variant.config)))
    return settings


def check_data(study: Study, options: Sequence[str]) -> None:
    """Check what the trainings and tests of a study will evaluate.

    Raises:
        UsageError: If a test would evaluate the validation data.
    """
    for variant in study.variants if study.report == 'test' else ():
        cfg = variant.read(options)
        if data_of(cfg, 'test') == data_of(cfg, 'val'):
            raise UsageError(f"{study.path}: report='test', but test and validation data of {variant.config} "
                             f'are the same, {data_of(cfg, "val") or "none"}: use other test data, or remove '
                             'report', 'settings-mismatch')


def check_trainings(study: Study, options: Sequence[str], names: Sequence[str]) -> None:
    """Find what would stop a training of a study, before the first one is started.

    Args:
        study (Study): The study.
        options (Sequence[str]): Words of ``--cfg-options`` for all trainings.
        names (Sequence[str]): Names of the variants to train.

    Raises:
        UsageError: If a setting is unknown or wrong, if a model cannot be built, or if the study cannot set
            the epochs or shares of a config.
    """
    for variant in study.variants:
        if variant.name in names:
            try:
                _check_training(study, variant, variant.read(options))
            except FileNotFoundError as error:
                raise UsageError(f'{study.path}: variant {variant.name!r}: {error.filename} does not exist',
                                 'missing-file') from error
            except Exception as error:
                told = error if isinstance(error, UsageError) else explain(error)
                if told is None:
                    raise
                raise UsageError(f'{study.path}: variant {variant.name!r}: {told.message}', told.code
                                 ) from error


def _check_training(study, variant, cfg):
    check_config(cfg)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    MODELS.build(cfg.model)
    if study.minutes is not None or variant.epochs is not None or len(study.shares) > 1:
        schedule_options(cfg, 1, interval=1, name=str(variant.config))
    for share in study.shares[:-1]:
        share_options(cfg, share, name=variant.name)


def outfile_options(variant: Variant, options: Sequence[str], split: str, prefix: Path) -> Dict[str, object]:
    """Settings that write the detections of a split into files with this prefix."""
    return {f'{key}.outfile_prefix': str(prefix) for key, _ in coco_metric_of(variant.read(options), split)}
