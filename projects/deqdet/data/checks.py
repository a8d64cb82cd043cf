"""Report faults of the data at the start, in one line that names the fault and its fix.

mmengine and mmdet find such faults late (a traceback from a data loader's worker) or never: class names that
are not in the annotation file give AP 0 without a message.
"""

import logging
import os
import os.path as osp
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Iterable, Optional, Sequence

import numpy as np
from mmdet.models import BaseDetector
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..compat.image_values import values_in_use
from ..compat.load_hooks import unwrapped
from ..errors import UsageError
from .annotation_checks import class_findings, dropped_findings
from .annotations import summarise
from .data_configs import is_local, loaded_leaves, loads_like_coco
from .findings import Finding, raise_first_error, some_of
from .mask_checks import missing_findings
from .split_checks import data_findings, suspicions

# The hook logs these findings, so :func:`check_files` does not mention them.
_SAID_BY_HOOK = ('class-order', 'degenerate-box', 'box-outside', 'area', 'image-reference')

# Number of images of a data set that are opened before training.
_LOOKED_AT = 8


def check_files(cfg: Config, splits: Sequence[str]) -> None:
    """Check that a run can use the files of a config, as far as possible without opening an image.

    It checks only local files. One worker reads annotation files and lists image folders.

    Args:
        cfg (Config): The whole config.
        splits (Sequence[str]): Splits that will be used: ``train``, ``val``, ``test``.

    Raises:
        UsageError: The first error, with the config key.
    """
    found = []
    # Before the process group exists, only the environment tells which worker this is.
    for finding in data_findings(cfg, splits, read=os.environ.get('RANK', '0') == '0'):
        raise_first_error([finding])
        found.append(finding)
    suspicious = suspicions([each for each in found if each.check not in _SAID_BY_HOOK])
    if suspicious:
        print_log(f'the data look suspicious ({suspicious}): run tools/dataset/check.py CONFIG for details',
                  logger='current', level=logging.WARNING)


def report(findings: Iterable[Finding]) -> None:
    """Log findings as warnings, and stop at the first error.

    Raises:
        UsageError: The line of the error.
    """
    for finding in findings:
        raise_first_error([finding])
        print_log(finding.line, logger='current', level=logging.WARNING)


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Checks the loaded datasets and the head before the first iteration.

    - A class name of ``metainfo`` that is not in the annotation file is an error.
    - An object without a mask is an error if the pipeline loads masks.
    - A head with another number of classes than its dataset is an error.
    - Boxes without size or outside their image, which mmdet drops, are counted in warnings.
    - A warning is logged if the first images have more than 8 bits per value, and 8 bits keep too little.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._checked = set()

    def before_train(self, runner: Runner) -> None:
        """Checks the datasets of training and, early, that of validation."""
        self._check(runner, runner.train_dataloader.dataset, 'train')
        self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Checks the dataset of validation once."""
        if runner.val_loop is not None:
            self._check(runner, runner.val_dataloader.dataset, 'val')

    def before_test(self, runner: Runner) -> None:
        """Checks the dataset of the test."""
        self._check(runner, runner.test_dataloader.dataset, 'test')

    def _before_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = 'train'
                     ) -> None:
        """Checks that the samples have an image and annotations."""
        _check_batch(runner.model, data_batch)

    def _check(self, runner, dataset, split):
        if split in self._checked:
            return
        self._checked.add(split)
        for leaf in loaded_leaves(dataset):
            classes = (getattr(leaf, 'metainfo', None) or {}).get('classes')
            ann_file = _coco_file(leaf)
            if classes and ann_file and is_main_process():
                where = f'{split} dataset, {ann_file}'
                masks = any(getattr(step, 'with_mask', False) for step in _steps_of(leaf))
                summary = summarise(ann_file, masks=masks)
                report(class_findings(classes, summary.categories, where=where))
                report(dropped_findings(summary.table, where))
                report(missing_findings(summary, classes, where) if masks else [])
            if classes:
                check_num_classes(runner.model, classes, where=f'{split} dataset')
            if is_main_process():
                _warn_of_values(leaf, f'{split} dataset')


def _steps_of(dataset):
    return getattr(getattr(dataset, 'pipeline', None), 'transforms', [])


def _check_batch(model, batch):
    whole = not isinstance(batch, dict) or {'inputs', 'data_samples'} <= set(batch)
    if isinstance(unwrapped(model), BaseDetector) and not whole:
        raise UsageError('the pipeline of the dataset gives samples without image or annotations: it needs '
                         'LoadImageFromFile at its start and PackDetInputs at its end', 'bad-sample')


def check_num_classes(model: nn.Module, classes: Sequence[str], *, where: str) -> None:
    """Check that the detection heads of a model have as many classes as the dataset.

    Args:
        model (nn.Module): The model, wrapped or not.
        classes (Sequence[str]): Class names of the dataset.
        where (str): Names the dataset in the message.

    Raises:
        UsageError: If they differ; it names the config key to set.
    """
    for name, module in unwrapped(model).named_modules():
        parts = name.split('.')
        # bbox_head itself or one of its stages. Its losses and the RPN count other classes.
        if 'bbox_head' not in (parts[-1], parts[-2] if parts[-1].isdigit() else ''):
            continue
        number = getattr(module, 'num_classes', None)
        if isinstance(number, int) and number != len(classes):
            stages = ' (and in every other stage)' if parts[-1].isdigit() else ''
            raise UsageError(
                f'model.{name}.num_classes is {number}, but the {where} has {len(classes)} '
                f'classes ({some_of(classes)}): set model.{name}.num_classes={len(classes)}'
                f'{stages}, or metainfo=dict(classes=(...)) of the dataset to those of the head',
                'classes-mismatch')


def _coco_file(dataset) -> Optional[str]:
    """Annotation file of a loaded dataset, if it is a local file in COCO's format."""
    ann_file = getattr(dataset, 'ann_file', None)
    if not loads_like_coco(type(dataset)) or not isinstance(ann_file, str):
        return None
    backend_args = getattr(dataset, 'backend_args', None)
    local = is_local(dict(backend_args=backend_args)) and osp.isfile(ann_file)
    return ann_file if local else None


def _warn_of_values(dataset, where):
    """Look at a few images; ``tools/dataset/check.py`` looks at all."""
    scaled = any(getattr(step, 'value_range', None) is not None for step in _steps_of(dataset))
    if scaled or not hasattr(dataset, 'get_data_info'):
        return
    numbers = np.linspace(0, max(0, len(dataset) - 1), min(_LOOKED_AT, len(dataset))).astype(int)
    paths = [dataset.get_data_info(number).get('img_path') for number in numbers.tolist()]
    found = []
    for path in paths:
        if isinstance(path, str) and osp.isfile(path):
            values = values_in_use(Path(path).read_bytes())
            if values is not None:
                found.append((path, values))
    # One image that uses all bits is enough: the others are dark.
    if found and all(values.are_lost for _, values in found):
        path, values = found[0]
        values = reduce(or_, (each for _, each in found if each.kind == values.kind))
        print_log(f'{where}: images such as {path} have {values.words}, but only 8 bits are kept, with '
                  f'little content: {values.setting}', logger='current', level=logging.WARNING)
