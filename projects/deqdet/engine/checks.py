"""What is wrong with the data is said at once, in one line that names it and how to mend it.

mmengine and mmdet find such faults late (a traceback from a data loader's worker) or never: class
names that are not in the annotation file give AP 0 without a word.
"""

import json
import logging
import os
import os.path as osp
from typing import Iterator, List, Optional, Sequence, Tuple

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..errors import UsageError
from .annotations import DoubtfulBoxes, summarise

_LOCAL_BACKENDS = ('disk', 'local')

# Where COCO's own files are, by their names and those of their folders.
_COCO = 'http://images.cocodataset.org/'
_SOURCES = {
    'image_info_test-dev2017.json': 'annotations/image_info_test2017.zip',
    'instances_train2017.json': 'annotations/annotations_trainval2017.zip',
    'instances_val2017.json': 'annotations/annotations_trainval2017.zip',
    **{f'{split}2017': f'zips/{split}2017.zip' for split in ('train', 'val', 'test')}
}


def check_files(cfg: Config, splits: Sequence[str]) -> None:
    """Annotation files and image folders exist, and the files have the classes of the datasets.

    Only what lies on local disks is looked at. One worker reads the annotation files.

    Args:
        cfg (Config): The whole config.
        splits (Sequence[str]): Those that will be used: ``train``, ``val``, ``test``.

    Raises:
        UsageError: If something is missing, naming the config key.
    """
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for key, dataset in _leaves(loader.get('dataset'), f'{split}_dataloader.dataset'):
            _check_dataset_files(dataset, key)
        evaluators = cfg.get(f'{split}_evaluator') or []
        for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if isinstance(evaluator, dict) and _is_local(evaluator):
                _check_file(evaluator.get('ann_file'), f'{split}_evaluator.ann_file')


def check_class_names(classes: Sequence[str], categories: Sequence[dict], *, where: str) -> None:
    """The classes of a dataset are categories of its annotation file.

    Args:
        classes (Sequence[str]): ``metainfo['classes']`` of the dataset.
        categories (Sequence[dict]): Categories of the file, see :func:`summarise`.
        where (str): Names dataset and file in the message.

    Raises:
        UsageError: If a class is not in the file, in it twice, or if ``classes`` is one string.
    """
    if isinstance(classes, str):
        raise UsageError(f'{where}: metainfo classes is the string {classes!r}; with one class '
                         f'write metainfo=dict(classes=({classes!r}, )), with the comma')
    names = [category['name'] for category in categories]
    missing = [name for name in classes if name not in set(names)]
    if missing:
        raise UsageError(
            f'{where}: {len(missing)} of the {len(classes)} class names of metainfo are not in '
            f'the file ({some_of(missing)}), their AP would be 0; the file has '
            f'{some_of(names, 20) or "none"}: set metainfo=dict(classes=(...)) of the dataset to '
            'names of the file')
    twice = sorted({name for name in classes if names.count(name) > 1})
    if twice:
        raise UsageError(f'{where}: several categories of the file have the same name '
                         f'({some_of(twice)}): names must be unique, or labels are shifted')
    order = [name for name in names if name in set(classes)]
    shifted = [label for label, name in enumerate(classes) if name != order[label]]
    if shifted:
        label = shifted[0]
        print_log(
            f'{where}: metainfo names the classes in another order than the file. mmdet numbers '
            f'them as the file does, so label {label} is {order[label]!r} and would be shown as '
            f'{classes[label]!r}: write metainfo in the order of the file', logger='current',
            level=logging.WARNING)


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Checks the loaded datasets and the head before the first iteration.

    - A class name of ``metainfo`` that is not in the annotation file is an error.
    - A head with another number of classes than its dataset is an error.
    - Boxes without size or outside their image, which mmdet drops, are counted in one warning.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._checked = set()

    def before_train(self, runner: Runner) -> None:
        """Checks the datasets of training and, long before its turn, of validation."""
        self._check(runner, runner.train_dataloader.dataset, 'train')
        self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Checks the dataset of validation, once."""
        if runner.val_loop is not None:
            self._check(runner, runner.val_dataloader.dataset, 'val')

    def before_test(self, runner: Runner) -> None:
        """Checks the dataset of the test."""
        self._check(runner, runner.test_dataloader.dataset, 'test')

    def _check(self, runner, dataset, split):
        if split in self._checked:
            return
        self._checked.add(split)
        for leaf in _loaded_leaves(dataset):
            classes = (getattr(leaf, 'metainfo', None) or {}).get('classes')
            ann_file = _coco_file(leaf)
            if classes and ann_file and is_main_process():
                where = f'{split} dataset, {ann_file}'
                summary = summarise(ann_file)
                check_class_names(classes, summary.categories, where=where)
                _warn_of_boxes(summary.boxes, where)
            if classes:
                check_num_classes(runner.model, classes, where=f'{split} dataset')


def check_num_classes(model: nn.Module, classes: Sequence[str], *, where: str) -> None:
    """The detection heads of a model have as many classes as the dataset.

    Args:
        model (nn.Module): The model, wrapped or not.
        classes (Sequence[str]): Class names of the dataset.
        where (str): Names the dataset in the message.

    Raises:
        UsageError: Naming the config key to set.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    for name, module in model.named_modules():
        parts = name.split('.')
        # bbox_head itself or a stage of it; losses below it and the RPN count something else.
        if 'bbox_head' not in (parts[-1], parts[-2] if parts[-1].isdigit() else ''):
            continue
        number = getattr(module, 'num_classes', None)
        if isinstance(number, int) and number != len(classes):
            stages = ' (and in every other stage of it)' if parts[-1].isdigit() else ''
            raise UsageError(
                f'model.{name}.num_classes is {number}, but the {where} has {len(classes)} '
                f'classes ({some_of(classes)}): set model.{name}.num_classes={len(classes)}'
                f'{stages}, or metainfo=dict(classes=(...)) of the dataset to those of the head')


def _leaves(dataset, key) -> Iterator[Tuple[str, dict]]:
    """Config of each dataset inside wrappers (Concat, Repeat, MultiImageMix, ...), and its key."""
    if isinstance(dataset, (list, tuple)):
        for number, part in enumerate(dataset):
            yield from _leaves(part, f'{key}.{number}')
    elif isinstance(dataset, dict):
        inner = [name for name in ('dataset', 'datasets') if dataset.get(name) is not None]
        for name in inner:
            yield from _leaves(dataset[name], f'{key}.{name}')
        if not inner:
            yield key, dataset


def _loaded_leaves(dataset) -> List:
    if hasattr(dataset, 'datasets'):
        return [leaf for part in dataset.datasets for leaf in _loaded_leaves(part)]
    return _loaded_leaves(dataset.dataset) if hasattr(dataset, 'dataset') else [dataset]


def _check_dataset_files(dataset, key):
    if not _is_local(dataset):
        return
    root = dataset.get('data_root') or ''

    def joined(path):
        return path if osp.isabs(path) else osp.join(root, path)

    ann_file = dataset.get('ann_file')
    if isinstance(ann_file, str) and ann_file and '://' not in joined(ann_file):
        _check_file(joined(ann_file), f'{key}.ann_file')
    for name, prefix in (dataset.get('data_prefix') or {}).items():
        if isinstance(prefix, str) and prefix and '://' not in joined(prefix) \
                and not osp.isdir(joined(prefix)):
            raise UsageError(
                f'{key}.data_prefix.{name}: no folder {joined(prefix)} (looked for from '
                f'{osp.abspath("")}): put the images there{_source(prefix)}, or set {key}.data_root')
    if isinstance(ann_file, str) and ann_file and _loads_like_coco(dataset.get('type')):
        path = joined(ann_file)
        classes = _configured_classes(dataset)
        # Before the process group there is only the environment to tell which worker this is.
        if classes and '://' not in path and os.environ.get('RANK', '0') == '0':
            check_class_names(classes, _categories(path), where=f'{key}, {path}')


def _check_file(path, key):
    if isinstance(path, str) and path and '://' not in path and not osp.isfile(path):
        raise UsageError(f'{key}: no file {path} (looked for from {osp.abspath("")}): put it '
                         f'there{_source(path)}, or set --cfg-options {key}=FILE')


def _source(path) -> str:
    """Where to get a file or folder of COCO; nothing for others."""
    archive = _SOURCES.get(osp.basename(path.rstrip('/')))
    return f" (COCO's is in {_COCO}{archive})" if archive else ''


def _categories(path):
    try:
        return summarise(path).categories
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f'{path} is not a JSON file ({error}): is it complete, and in COCO\'s '
                         'annotation format?') from error


def _is_local(cfg):
    backend_args = cfg.get('backend_args') or {}
    return backend_args.get('backend', 'local') in _LOCAL_BACKENDS


def _dataset_class(name):
    """The class behind ``type``, if it reads its file as ``CocoDataset`` does: by class names.

    LVIS, Objects365 and others number their classes in ways of their own.
    """
    kind = DATASETS.get(name) if isinstance(name, str) else name
    if not isinstance(kind, type) or not issubclass(kind, CocoDataset):
        return None
    return kind if kind.load_data_list is CocoDataset.load_data_list else None


def _loads_like_coco(name) -> bool:
    return _dataset_class(name) is not None


def _configured_classes(dataset) -> Optional[Sequence[str]]:
    metainfo = dataset.get('metainfo')
    return _dataset_class(dataset.get('type'))._load_metainfo(metainfo).get('classes')


def _coco_file(dataset) -> Optional[str]:
    """Annotation file of a loaded dataset, if it is a local one in COCO's format."""
    ann_file = getattr(dataset, 'ann_file', None)
    if not _loads_like_coco(type(dataset)) or not isinstance(ann_file, str):
        return None
    backend_args = getattr(dataset, 'backend_args', None)
    local = _is_local(dict(backend_args=backend_args)) and osp.isfile(ann_file)
    return ann_file if local else None


def _warn_of_boxes(boxes: DoubtfulBoxes, where):
    kinds = dict(
        without_size='below 1 px, of zero or negative size',
        outside='entirely outside the image',
        without_area="with an 'area' of zero or less",
        without_image='of an image_id that the file does not have')
    counts = {kind: getattr(boxes, kind) for kind in kinds}
    found = [f'{count} {kinds[kind]} (annotation ids {some_of(boxes.examples[kind])}'
             f'{", ..." if count > len(boxes.examples[kind]) else ""})'
             for kind, count in counts.items() if count]
    if found:
        print_log(
            f'{where}: {sum(counts.values())} of {boxes.total} boxes are not used: '
            f'{"; ".join(found)}', logger='current', level=logging.WARNING)


def some_of(names, at_most=8):
    """The first few of a list, in words."""
    shown = ', '.join(str(name) for name in names[:at_most])
    return shown + (f' and {len(names) - at_most} more' if len(names) > at_most else '')
