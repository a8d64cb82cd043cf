"""Config, weights and class names of a detector: read safely and checked against each other."""

import argparse
import threading
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Union

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader

from ..checkpoints.check import check_checkpoint_file
from ..checkpoints.fit import fit_weights
from ..checkpoints.publishing import published
from ..checkpoints.weight_names import for_mmengine
from ..compat.checkpoint_loading import safe_checkpoint_loading, trust_checkpoints
from ..data.checks import check_num_classes
from ..data.data_configs import class_names
from ..errors import UsageError, first_line
from ..launching.configs import read_config

_ONE_AT_A_TIME = threading.Lock()


def open_config(config: Union[str, Path, Config, dict], cfg_options: Optional[dict] = None) -> Config:
    """A config for detection.

    Args:
        config (str, Path, Config or dict): A path, or the name of a config that comes with the package, see
            ``deqdet.shipped``. A loaded config is copied.
        cfg_options (dict, optional): Settings that override it, by dotted key.

    Raises:
        UsageError: If it cannot be loaded, or has no model or no test pipeline.
    """
    if isinstance(config, (str, Path)):
        where = f'config {config}'
        cfg = read_config(argparse.Namespace(config=str(config), cfg_options=cfg_options))
    elif isinstance(config, (Config, ConfigDict, dict)):
        where = f'config {getattr(config, "filename", None) or "without a file name"}'
        cfg = deepcopy(config) if isinstance(config, Config) else Config(deepcopy(dict(config)))
        cfg.merge_from_dict(cfg_options or {})
    else:
        raise UsageError(f'config must be a path, a name or a Config, not {type(config).__name__}',
                         'bad-argument')
    if 'model' not in cfg:
        raise UsageError(f'{where} has no model', 'bad-config')
    if not cfg.get('test_dataloader'):
        raise UsageError(f'{where} has no test_dataloader, which defines how images are prepared',
                         'bad-config')
    return cfg


def read_weights(path: str, *, trust: bool = False) -> Dict[str, Any]:
    """Read a checkpoint in the form that :func:`published` gives.

    Args:
        path (str): File (``.pth``, ``.safetensors``) or URL.
        trust (bool): Load everything in it, not only weights. This may run any code that is in it.

    Returns:
        dict: ``meta`` and ``state_dict``.

    Raises:
        UsageError: If it cannot be read, is not a checkpoint, or holds objects that could run code when
            loaded.
    """
    if path.endswith('.py'):
        raise UsageError(f'{path} is not a checkpoint: the config comes first, then the checkpoint',
                         'bad-checkpoint')
    # torch keeps its list of trusted classes per process, so two threads would share it.
    with _ONE_AT_A_TIME, safe_checkpoint_loading():
        if trust:
            trust_checkpoints()
        checkpoint = check_checkpoint_file(path)
        if checkpoint is None:
            try:
                checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
            except OSError as error:
                raise UsageError(f'checkpoint {path} cannot be downloaded ({error}): download it by hand and '
                                 'use the file', 'download-failed') from error
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    if isinstance(meta, Mapping) and 'CLASSES' in meta:  # mmdet 2
        checkpoint = {**checkpoint, 'meta': {'dataset_meta': dict(classes=meta['CLASSES']), **meta}}
    return published(checkpoint, f'checkpoint {path}')


def fitted_weights(model: BaseModel, weights: Mapping[str, torch.Tensor], name: str
                   ) -> Dict[str, torch.Tensor]:
    """Weights for exactly the parameters of this model, under the names that mmengine's loading expects.

    Raises a UsageError with the differences and the likely mistake.
    """
    fitted, fit = fit_weights(weights, model)
    if fit.fitting < fit.total or fit.extra and fit.of_another_architecture():
        raise fit.error(f'checkpoint {name}')
    return for_mmengine(fitted)


def classes_of(cfg: Config, meta: Mapping[str, Any], model: BaseModel) -> Sequence[str]:
    """Class names from the checkpoint, else from the test data of the config.

    Args:
        cfg (Config): The whole config.
        meta (Mapping[str, Any]): ``meta`` of the checkpoint.
        model (BaseModel): The model.

    Raises:
        UsageError: If the model has another number of classes.
    """
    classes, where = (meta.get('dataset_meta') or {}).get('classes'), 'checkpoint'
    if not classes:
        classes, where = class_names(cfg, 'test'), 'test dataset'
    if not classes:
        raise UsageError('neither the checkpoint nor the config names the classes: add '
                         'metainfo=dict(classes=(...)) to test_dataloader.dataset', 'bad-config')
    classes = (classes, ) if isinstance(classes, str) else tuple(classes)
    check_num_classes(model, classes, where=where)
    return classes


def check_device(device: Optional[str]) -> None:
    """Raise a UsageError if the device does not exist."""
    if device is None:
        return
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f'device {device!r} cannot be used ({first_line(error)}): remove it, or use "cpu"',
                         'no-device') from error
