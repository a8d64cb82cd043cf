"""Metainfo of mmengine's datasets before they are built."""

from typing import Type

from mmengine.dataset import BaseDataset


def metainfo_of(kind: Type[BaseDataset], config: dict) -> dict:
    """Metainfo (classes, palette) that a dataset of this class will have with its config."""
    return kind._load_metainfo(config.get('metainfo'))
