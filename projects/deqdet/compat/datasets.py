"""Private state of data sets, of mmdet's metrics and of its data preprocessor."""

from typing import Any, Dict, List, Optional, Tuple, Type

from mmdet.evaluation import CocoMetric
from mmdet.models import DetDataPreprocessor
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from torch.utils.data import Subset

# Attributes in which the metrics of COCO and LVIS keep their annotation file.
_FILES = ('_coco_api', '_lvis_api')


def listed_image_ids(metric: BaseMetric) -> Optional[List[Any]]:
    """Image ids in the annotation file of a metric; None if it has not read one."""
    files = (getattr(metric, name, None) for name in _FILES)
    return next((list(file.imgs) for file in files if file is not None and hasattr(file, 'imgs')), None)


def listed_categories(metric: CocoMetric) -> List[str]:
    """Names of the categories in the annotation file of a metric."""
    return [category['name'] for category in metric._coco_api.loadCats(metric._coco_api.getCatIds())]


def listed_sizes(metric: CocoMetric) -> Dict[Any, Tuple[int, int]]:
    """Height and width of each image in the annotation file of a metric, by id."""
    return {key: (image['height'], image['width']) for key, image in metric._coco_api.imgs.items()}


def is_limited(dataset: Any) -> bool:
    """Whether ``indices`` leave out a part of a loaded dataset without wrappers."""
    return getattr(dataset, '_indices', None) is not None


def image_ids(dataset: Any) -> Optional[List[Any]]:
    """The image id of each sample of a loaded dataset, with its wrappers, in order.

    Args:
        dataset (Dataset): A dataset with mmengine's ``get_data_info``, or a ``Subset`` of one.

    Returns:
        list, optional: None if the dataset does not give them.
    """
    if isinstance(dataset, Subset):
        ids = image_ids(dataset.dataset)
        return ids and [ids[number] for number in dataset.indices]
    info = getattr(dataset, 'get_data_info', None)
    if info is None:
        return None
    # One at a time, because the records of a large set would fill the memory.
    ids = [info(number).get('img_id') for number in range(len(dataset))]
    return None if None in ids else ids


def metainfo_of(kind: Type[BaseDataset], config: dict) -> dict:
    """Metainfo (classes, palette) that a dataset of this class will have with its config."""
    return kind._load_metainfo(config.get('metainfo'))


def exchanges_channels(preprocessor: DetDataPreprocessor) -> bool:
    """Whether a data preprocessor converts BGR to RGB, or RGB to BGR."""
    return preprocessor._channel_conversion
