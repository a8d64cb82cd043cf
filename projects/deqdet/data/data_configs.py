"""The files that the datasets of a config read, found before any dataset is built."""

import os.path as osp
from dataclasses import dataclass
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config

from ..compat.datasets import metainfo_of

_LOCAL_BACKENDS = ('disk', 'local')


@dataclass(frozen=True)
class CocoSource:
    """A dataset in COCO's format on a local disk, as a config names it.

    Attributes:
        key (str): Config key, for example ``train_dataloader.dataset``.
        path (str): The annotation file.
        classes (Sequence[str]): Class names of the dataset.
        image_folder (str): Folder of the image files.
        dataset (dict): Config of the dataset.
    """

    key: str
    path: str
    classes: Sequence[str]
    image_folder: str
    dataset: dict

    @property
    def where(self) -> str:
        """Names key and file in messages."""
        return f'{self.key}, {self.path}'

    @property
    def stock(self) -> bool:
        """Whether mmdet's own ``parse_data_info`` reads the annotations."""
        return _dataset_class(self.dataset.get('type')).parse_data_info is CocoDataset.parse_data_info

    @property
    def same_as(self) -> tuple:
        """Equal for two sources that read the same images in the same way."""
        settings = {name: value for name, value in self.dataset.items() if name != 'pipeline'}
        return self.path, self.image_folder, repr(sorted(settings.items()))


def leaves(dataset: Any, key: str, *, until: Optional[str] = None) -> Iterator[Tuple[str, dict]]:
    """Config of each dataset inside wrappers (Concat, Repeat, MultiImageMix, ...), and its key.

    Args:
        dataset (dict or list): Config of a dataset, wrapped or not; anything else gives nothing.
        key (str): Config key of ``dataset``.
        until (str, optional): Treat a wrapper with this setting as a dataset.
    """
    if isinstance(dataset, (list, tuple)):
        for number, part in enumerate(dataset):
            yield from leaves(part, f'{key}.{number}', until=until)
    elif isinstance(dataset, dict):
        inner = [name for name in ('dataset', 'datasets') if dataset.get(name) is not None]
        inner = [] if until and dataset.get(until) else inner
        for name in inner:
            yield from leaves(dataset[name], f'{key}.{name}', until=until)
        if not inner:
            yield key, dataset


def leaves_of(cfg: Config, split: str) -> List[Tuple[str, dict]]:
    """:func:`leaves` of a split: ``train``, ``val`` or ``test``."""
    loader = cfg.get(f'{split}_dataloader') or {}
    return list(leaves(loader.get('dataset'), f'{split}_dataloader.dataset'))


def pipelines_of(cfg: Config, split: str) -> List[Tuple[str, Any]]:
    """Configs whose ``pipeline`` produces the model's input, and their keys, for a split.

    These are the datasets without wrappers, or a wrapper with a pipeline, such as ``MultiImageMixDataset``.
    """
    loader = cfg.get(f'{split}_dataloader') or {}
    found = leaves(loader.get('dataset'), f'{split}_dataloader.dataset', until='pipeline')
    return [(key, dataset) for key, dataset in found if dataset.get('pipeline')]


def class_names(cfg: Config, split: str) -> Optional[Sequence[str]]:
    """Class names of the data of a split; the data files need not exist.

    Of several datasets the first counts, as in mmengine's ``ConcatDataset``.
    """
    _, dataset = leaves_of(cfg, split)[0]
    return DATASETS.build({**dataset, 'lazy_init': True}).metainfo.get('classes')


def loaded_leaves(dataset: Any) -> List:
    """:func:`leaves` for built datasets, in the same order."""
    if hasattr(dataset, 'datasets'):
        return [leaf for part in dataset.datasets for leaf in loaded_leaves(part)]
    return loaded_leaves(dataset.dataset) if hasattr(dataset, 'dataset') else [dataset]


def evaluators_of(cfg: Config, split: str) -> List[dict]:
    """Configs of the evaluators of a split."""
    evaluators = cfg.get(f'{split}_evaluator') or []
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    return [evaluator for evaluator in evaluators if isinstance(evaluator, dict)]


def metrics_of(cfg: Config, split: str) -> List[Tuple[str, dict, str]]:
    """Configs of the metrics of a split, and the data that each evaluates.

    Returns:
        list[tuple]: Key and config of each metric, and the key of its data: all data of the split, or one of
            several datasets if a ``MultiDatasetsEvaluator`` has a metric for each.
    """
    key, data = f'{split}_evaluator', f'{split}_dataloader.dataset'
    found = []
    for evaluator in evaluators_of(cfg, split):
        if evaluator.get('metrics') is None:
            found.append((key, evaluator, data))
            continue
        parts = evaluator['metrics']
        parts = parts if isinstance(parts, (list, tuple)) else [parts]
        apart = str(evaluator.get('type')).split('.')[-1] == 'MultiDatasetsEvaluator'
        found += [(f'{key}.metrics.{number}', part, f'{data}.datasets.{number}' if apart else data)
                  for number, part in enumerate(parts) if isinstance(part, dict)]
    return found


def coco_source(dataset: dict, key: str) -> Optional[CocoSource]:
    """The files of a dataset in COCO's format.

    Args:
        dataset (dict): Config of a dataset without wrappers.
        key (str): Config key of ``dataset``.

    Returns:
        CocoSource: None if the dataset has another format, is not on a local disk or has no file or classes.
    """
    ann_file = dataset.get('ann_file')
    if not (is_local(dataset) and isinstance(ann_file, str) and ann_file
            and loads_like_coco(dataset.get('type'))):
        return None
    path = joined(dataset, ann_file)
    classes = metainfo_of(_dataset_class(dataset.get('type')), dataset).get('classes')
    if not classes or '://' in path or not osp.isfile(path):
        return None
    folder = (dataset.get('data_prefix') or {}).get('img') or ''
    return CocoSource(key=key, path=path, classes=classes, image_folder=joined(dataset, folder),
                      dataset=dataset)


def joined(dataset: dict, path: str) -> str:
    """A path of a dataset's config, joined to its ``data_root``."""
    return path if osp.isabs(path) else osp.join(dataset.get('data_root') or '', path)


def is_local(cfg: dict) -> bool:
    """Whether ``backend_args`` of a dataset or evaluator mean local disks."""
    backend_args = cfg.get('backend_args') or {}
    return backend_args.get('backend', 'local') in _LOCAL_BACKENDS


def loads_like_coco(name: Union[str, type, None]) -> bool:
    """Whether a dataset of this ``type`` (name or class) reads its file as ``CocoDataset`` does."""
    return _dataset_class(name) is not None


def _dataset_class(name):
    """The class behind ``type``, if it reads its file and numbers its classes as ``CocoDataset`` does.

    LVIS, Objects365 and others number their classes in other ways.
    """
    kind = DATASETS.get(name) if isinstance(name, str) else name
    if not isinstance(kind, type) or not issubclass(kind, CocoDataset):
        return None
    return kind if getattr(kind, 'load_data_list', None) is CocoDataset.load_data_list else None
