"""A config to detect with."""

import argparse
from copy import deepcopy
from pathlib import Path
from typing import Optional, Union

from mmengine.config import Config, ConfigDict

from ..errors import UsageError
from ..launching.configs import read_config


def open_config(config: Union[str, Path, Config, dict], cfg_options: Optional[dict] = None) -> Config:
    """A config to detect with.

    Args:
        config (str, Path, Config or dict): A path, or the name of a config that comes with
            the package, see ``deqdet.shipped``; a config that is loaded is copied.
        cfg_options (dict, optional): Settings that override it, by their dotted keys.

    Raises:
        UsageError: If it cannot be had, or has no model or no test pipeline.
    """
    if isinstance(config, (str, Path)):
        name = str(config)
        cfg = read_config(argparse.Namespace(config=name, cfg_options=cfg_options))
    elif isinstance(config, (Config, ConfigDict, dict)):
        name = getattr(config, 'filename', None) or 'that was given'
        cfg = deepcopy(config) if isinstance(config, Config) else Config(deepcopy(dict(config)))
        cfg.merge_from_dict(cfg_options or {})
    else:
        raise UsageError(f'config: a path, a name or a Config is needed, not a {type(config).__name__}')
    if 'model' not in cfg:
        raise UsageError(f'config {name} has no model')
    if not cfg.get('test_dataloader'):
        raise UsageError(f'config {name} has no test_dataloader, whose dataset says how images are prepared')
    return cfg
