"""What datasets of mmengine know before they are built."""

from typing import Type

from mmengine.dataset import BaseDataset


def metainfo_of(kind: Type[BaseDataset], config: dict) -> dict:
    """Metainfo that a dataset of a class will have with its config: classes, palette."""
    return kind._load_metainfo(config.get('metainfo'))
