"""Trainings with a share of the training images."""

import io
from contextlib import redirect_stdout
from typing import Dict, List, Tuple

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ...data.data_configs import leaves_of
from ...errors import UsageError
from .variants import words_of

# Linux takes at most 128 KiB in one word of a command.
_LONGEST = 100_000


def share_options(cfg: Config, share: float, *, name: str) -> Tuple[Dict[str, object], int, int]:
    """Settings that train with a random share of the images, always the same.

    A smaller share is a part of a larger one.

    Args:
        cfg (Config): The config; its images must be there.
        share (float): Share of the images that ``filter_cfg`` leaves.
        name (str): Name of the variant, for the message.

    Returns:
        tuple: The settings by dotted key, the number of images of the share, and of all.

    Raises:
        UsageError: If the training data are several data sets, have ``indices`` already, or are too many.
    """
    found = leaves_of(cfg, 'train')
    if len(found) != 1 or found[0][1].get('indices') is not None:
        raise UsageError(f'{name}: shares are for one training data set without indices', 'settings-mismatch')
    key, dataset = found[0]
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    with redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        count = len(DATASETS.build({**dataset, 'pipeline': []}))
    chosen = first_of(count, share)
    options: Dict[str, object] = {f'{key}.indices': chosen}
    if len(words_of(options)[0]) > _LONGEST:
        raise UsageError(f'{name}: {len(chosen)} of {count} training images are too many for the shares of a '
                         'study: write a smaller annotation file, and a variant that uses it',
                         'settings-mismatch')
    return options, len(chosen), count


def first_of(count: int, share: float) -> List[int]:
    """Indices of a random share, at least one, in ascending order."""
    order = np.random.default_rng(0).permutation(count)
    return sorted(order[:max(1, round(share * count))].tolist())
