"""The datasets of a config, built as training and testing build them, and their content."""

import gc
import io
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import DATASETS
from mmengine.config import Config

from ..annotations import AnnotationTable, summarise
from ..data_configs import coco_source, leaves_of, loaded_leaves
from ..findings import Finding


@dataclass(frozen=True)
class Source:
    """One dataset without wrappers: M images that its filter leaves, with N objects.

    Attributes:
        key (str): Config key of the dataset.
        where (str): Names key and annotation file.
        splits (tuple[str]): The splits that read it, of ``train``, ``val``, ``test``.
        classes (tuple[str]): Class names by label.
        paths (list[str]): The image files, M.
        image_ids (list): M ids.
        sizes (np.ndarray): Width and height as annotated, has shape (M, 2).
        boxes (np.ndarray): (x1, y1, x2, y2) in pixels, from the dataset, has shape (N, 4).
        labels (np.ndarray): Has shape (N,).
        crowd (np.ndarray): Crowds and other objects that are not learnt, has shape (N,), bool.
        images (np.ndarray): Row of the image of each object, has shape (N,).
        listed (int): Number of images in the annotation file, before the filter; 0 if unknown.
        coco (bool): Whether the checks of COCO annotation files ran on it.
        loading (dict): How its pipeline reads an image: ``color_type``, ``imdecode_backend``,
            ``backend_args``, ``ignore_empty``, ``value_range``.
    """

    key: str
    where: str
    splits: Tuple[str, ...]
    classes: Tuple[str, ...]
    paths: List[str]
    image_ids: List
    sizes: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    images: np.ndarray
    listed: int
    coco: bool
    loading: dict

    @property
    def objects_per_image(self) -> np.ndarray:
        """Number of objects without crowds, has shape (M,)."""
        return np.bincount(self.images[~self.crowd], minlength=len(self.paths))

    def table(self) -> AnnotationTable:
        """The data as columns of an annotation file. The number of an object within its image is its id."""
        count = len(self.boxes)
        starts = np.searchsorted(self.images, np.arange(len(self.paths)))
        there = np.ones(count, dtype=bool)
        extent = self.boxes[:, 2:] - self.boxes[:, :2]
        return AnnotationTable(
            image_ids=_objects(self.image_ids), file_names=self.paths, sizes=self.sizes,
            # Text with the row makes the ids unique.
            ids=_objects([f'number {row - starts[image] + 1}' for row, image in enumerate(self.images)]),
            images=self.images, named_images=self.images, category_ids=self.labels,
            boxes=np.concatenate([self.boxes[:, :2], extent], axis=1),
            areas=extent.prod(axis=1), has_area=there, has_crowd=there, crowd=self.crowd,
            ignored=np.zeros(count, dtype=bool), rotations=np.zeros(count),
            other_mode=np.zeros(count, dtype=bool), outlines=np.full((count, 4), np.nan))


def read_sources(cfg: Config, splits: Sequence[str]) -> Tuple[List[Source], Dict[str, Any], List[Finding]]:
    """Build the datasets of a config and read their content.

    Args:
        cfg (Config): The whole config.
        splits (Sequence[str]): Splits to read.

    Returns:
        tuple: The datasets without wrappers, one for all splits that share it; built datasets, with their
            wrappers, by the first split that has them; and a finding for each split that cannot be built.
    """
    sources, built, found, by_config = [], {}, [], {}
    for split in splits:
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        if dataset is None:
            continue
        same = by_config.setdefault(repr(_without_pipelines(dataset)), split)
        if same != split:
            # val and test are often the same set; its faults are reported once.
            sources = [_shared(source, same, split) for source in sources]
            continue
        try:
            with _quietly():
                built[split] = DATASETS.build(dataset)
                built[split].full_init()
            parts = [_read(leaf, config, key, split) for leaf, (key, config) in zip(
                loaded_leaves(built[split]), leaves_of(cfg, split))]
        except Exception as error:  # any dataset may raise any error: it is reported
            found.append(Finding(
                'dataset', 'error', f'{split}_dataloader.dataset',
                f'it cannot be built: {type(error).__name__}: {getattr(error, "message", error)}',
                'check its annotation file and its settings', 1))
            built.pop(split, None)  # built, but not readable
            continue
        for part in parts:
            if part is None:
                found.append(Finding(
                    'left-out', 'note', f'{split}_dataloader.dataset', 'a dataset in it has no boxes in '
                    'images (img_path, instances), and was not checked'))
            else:
                sources.append(part)
    return sources, built, found


@contextmanager
def _quietly():
    """Silence pycocotools, and keep garbage collection from taking longer than a small set."""
    gc.freeze()
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        gc.unfreeze()


def _without_pipelines(dataset):
    if isinstance(dataset, (list, tuple)):
        return [_without_pipelines(part) for part in dataset]
    if isinstance(dataset, dict):
        return {key: _without_pipelines(value) for key, value in dataset.items() if key != 'pipeline'}
    return dataset


def _shared(source, split, other) -> Source:
    if split not in source.splits:
        return source
    return Source(**{**vars(source), 'splits': (*source.splits, other)})


def _read(leaf, config, key, split) -> Optional[Source]:
    paths, image_ids, sizes, rows, objects = [], [], [], [], []
    # One at a time, because the records of a large set would fill the memory.
    for row in range(len(leaf)):
        info = leaf.get_data_info(row)
        boxes = [each['bbox'] for each in info.get('instances', [])]
        if 'img_path' not in info or 'instances' not in info or any(len(box) != 4 for box in boxes):
            return None
        paths.append(info['img_path'])
        image_ids.append(info.get('img_id', row))
        sizes.append((info.get('width') or np.nan, info.get('height') or np.nan))
        for each in info['instances']:
            rows.append(row)
            objects.append((*each['bbox'], each['bbox_label'], bool(each.get('ignore_flag'))))
    table = np.array(objects, dtype=float).reshape(-1, 6)
    coco = coco_source(config, key)
    ann_file = getattr(leaf, 'ann_file', '')
    return Source(
        key=key, where=coco.where if coco else f'{key}, {ann_file}' if ann_file else key, splits=(split, ),
        classes=tuple((leaf.metainfo or {}).get('classes') or ()),
        paths=paths, image_ids=image_ids, sizes=np.array(sizes, dtype=float).reshape(-1, 2),
        boxes=table[:, :4], labels=table[:, 4].astype(int), crowd=table[:, 5].astype(bool),
        images=np.array(rows, dtype=int),
        listed=len(summarise(coco.path).table.image_ids) if coco else 0,
        coco=coco is not None, loading=_loading(leaf))


def _loading(leaf) -> dict:
    """How the pipeline reads an image; mmdet's default if its loader is not mmcv's."""
    steps = getattr(getattr(leaf, 'pipeline', None), 'transforms', [])
    loader = next((step for step in steps if isinstance(step, LoadImageFromFile)), None)
    loader = loader or LoadImageFromFile(backend_args=getattr(leaf, 'backend_args', None))
    return dict(value_range=getattr(loader, 'value_range', None), **{
        name: getattr(loader, name)
        for name in ('color_type', 'imdecode_backend', 'backend_args', 'ignore_empty')})


def _objects(values) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
