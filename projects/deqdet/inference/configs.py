"""A config from its path or its name, wherever the package was installed."""

import argparse
import os.path as osp
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Dict, List, Optional, Union

from mmengine.config import Config, ConfigDict

from ..engine.cli import read_config
from ..engine.findings import some_of
from ..errors import UsageError

_PACKAGE = Path(__file__).resolve().parents[1]
_CONFIG_ENDINGS = ('.py', '.yml', '.yaml', '.json')
_CHECKPOINT_ENDINGS = ('.pth', '.pt', '.safetensors', '.ckpt')


def find_config(name: Union[str, Path]) -> str:
    """Path of a config.

    Args:
        name (str or Path): A file, or the name of a config that comes with the package:
            ``deqdet_r50_2x_coco``, with or without its folder and ``.py``.

    Returns:
        str: The path.

    Raises:
        UsageError: If there is no such file and no such name.
    """
    name = str(name)
    if osp.isfile(osp.expanduser(name)):
        return osp.expanduser(name)
    if name.endswith(_CHECKPOINT_ENDINGS):
        raise UsageError(f'{name} is no config file (.py): the config comes first, then the checkpoint')
    shipped = _shipped_configs()
    wanted = name[:-len('.py')] if name.endswith('.py') else name
    found = [path for key, path in shipped.items() if key == wanted or key.endswith(f'/{wanted}')]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise UsageError(f'config {name}: there are several of this name ({some_of(found)}): give its '
                         'folder, too')
    last = wanted.rpartition('/')[2]
    close = get_close_matches(last, {key.rpartition('/')[2] for key in shipped}, n=3)
    raise UsageError(f'no config file {name} (looked for from {osp.abspath("")}), and no config of that name '
                     f'comes with deqdet{f"; near it are {some_of(close)}" if close else ""}')


def open_config(config: Union[str, Path, Config, dict], cfg_options: Optional[dict] = None) -> Config:
    """A config to detect with.

    Args:
        config (str, Path, Config or dict): See :func:`find_config`; a config that is loaded is copied.
        cfg_options (dict, optional): Settings that override it, by their dotted keys.

    Raises:
        UsageError: If it cannot be had, or has no model or no test pipeline.
    """
    if isinstance(config, (str, Path)):
        name = str(config)
        cfg = read_config(argparse.Namespace(config=find_config(config), cfg_options=cfg_options))
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


def _shipped_configs() -> Dict[str, Path]:
    """Configs of the checkout or, installed from a wheel, of the package, by folder and name."""
    roots: List[Path] = [_PACKAGE / '.mim']
    if _PACKAGE.parent.name == 'projects':
        roots.append(_PACKAGE.parents[1])
    for root in roots:
        if (root / 'configs').is_dir():
            return {str(path.relative_to(root).with_suffix('').as_posix()): path
                    for folder in ('configs', 'projects/configs')
                    for path in sorted((root / folder).rglob('*.py'))
                    if '_base_' not in path.parts}
    return {}
