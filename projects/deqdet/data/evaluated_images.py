"""Metrics evaluate the images of the tested data set, not all images of their annotation file."""

import logging
from typing import Any, Iterator, List, Optional, Set, Tuple

from mmdet.evaluation import CocoOccludedSeparatedMetric, MultiDatasetsEvaluator
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..compat.datasets import image_ids, is_limited, listed_image_ids
from ..errors import UsageError
from .data_configs import loaded_leaves
from .findings import some_of
from .submission import CocoSubmissionMetric


@HOOKS.register_module()
class EvaluatedImagesHook(Hook):
    """Limits the metrics of validation and test to the images of their data sets.

    mmdet's ``CocoMetric`` evaluates all images of its annotation file. Without this hook, objects in images
    that the data set leaves out (by ``indices`` for example) would count as missed.
    """

    def __init__(self) -> None:
        self._limited: Set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Limits the metrics of validation, so that their errors appear before training."""
        if runner.val_loop is not None and 'val' not in self._limited:
            self._limited.add('val')
            _limit(runner.val_loop, 'val_evaluator')

    def before_val(self, runner: Runner) -> None:
        """Limits the metrics of a validation without training."""
        self.before_train(runner)

    def before_test(self, runner: Runner) -> None:
        """Limits the metrics of a test."""
        if 'test' in self._limited:
            return
        self._limited.add('test')
        _limit(runner.test_loop, 'test_evaluator')


def _limit(loop, name) -> None:
    if hasattr(loop, 'evaluator'):  # other loops may have no evaluator
        limit_evaluator(loop.evaluator, loop.dataloader, name=name)


def limit_evaluator(evaluator: Evaluator, dataloader: DataLoader, *, name: str = 'test_evaluator') -> None:
    """Let each metric evaluate the images of its data set.

    These are all images of the data set. Objects in an image without predictions count as missed.

    Args:
        evaluator (Evaluator): Its metrics are changed in place.
        dataloader (DataLoader): Loads the evaluated data.
        name (str): Names the evaluator in messages.

    Raises:
        UsageError: If the metric's file lacks images of the data set, or if images are tested more than once.
    """
    _warn_of_dropped(dataloader, name)
    for metric, dataset in _metrics_with_data(evaluator, dataloader.dataset):
        if isinstance(metric, CocoSubmissionMetric) or getattr(metric, 'format_only', False):
            continue
        listed = listed_image_ids(metric)
        # The metrics of COCO and LVIS, and their subclasses.
        by_id = hasattr(metric, 'img_ids')
        ids = image_ids(dataset) if by_id or listed is not None else None
        if by_id and ids is not None:
            _check(ids, listed, metric, name)
        if listed is None:
            _warn_of_others(metric, dataset, name)
        elif ids is None:
            if len(dataset) < len(listed):
                _warn(metric, name, f'{len(dataset)} images are tested, but the data set does not tell which '
                      f'of the {len(listed)} images of the annotation file they are')
        elif set(ids) != set(listed):
            if not by_id or isinstance(metric, CocoOccludedSeparatedMetric):
                _warn(metric, name, f'{len(ids)} of {len(listed)} images of its annotation file are tested')
                continue
            metric.img_ids = ids
            print_log(f'{name}: {type(metric).__name__} evaluates the {len(ids)} images of the data set, of '
                      f'{len(listed)} images in its annotation file', logger='current')


def _metrics_with_data(evaluator, dataset) -> Iterator[Tuple[BaseMetric, Any]]:
    """Each metric with the data set that it evaluates."""
    if isinstance(evaluator, MultiDatasetsEvaluator) and hasattr(dataset, 'datasets'):
        yield from zip(evaluator.metrics, dataset.datasets)
    else:
        yield from ((metric, dataset) for metric in evaluator.metrics)


def _check(ids: List[Any], listed: Optional[List[Any]], metric: BaseMetric, name: str) -> None:
    twice = len(ids) - len(set(ids))
    if twice:
        raise UsageError(
            f'{name}: {twice} of {len(ids)} image ids of the data set occur more than once, so '
            f'{type(metric).__name__} would count detections twice: remove RepeatDataset, or use '
            'MultiDatasetsEvaluator with a metric for each data set', 'images-mismatch')
    lacking = sorted(set(ids) - set(ids if listed is None else listed), key=str)
    if lacking:
        raise UsageError(
            f'{name}: {len(lacking)} of {len(ids)} images of the data set are not in the annotation file of '
            f'{type(metric).__name__} (ids {some_of(lacking, 3)}): set the ann_file of the evaluator to that '
            'of the data set; several data sets need a MultiDatasetsEvaluator', 'images-mismatch')


def _warn_of_others(metric, dataset, name) -> None:
    """Warn if a metric reads its file with other code, and only a part of the data set is tested."""
    if isinstance(getattr(metric, 'ann_file', None), str) and any(map(is_limited, loaded_leaves(dataset))):
        _warn(metric, name, 'indices remove a part of the data set')


def _warn(metric, name, why) -> None:
    print_log(f'{name}: {why}, but {type(metric).__name__} cannot be limited to these: objects of the other '
              'images may count as missed', logger='current', level=logging.WARNING)


def _warn_of_dropped(dataloader, name) -> None:
    size = (dataloader.batch_size or 1) * get_world_size()
    left = len(dataloader.dataset) % size
    if dataloader.drop_last and left:
        print_log(f'{name}: drop_last=True of the dataloader removes {left} images, and their objects '
                  'count as missed: set drop_last=False', logger='current', level=logging.WARNING)
