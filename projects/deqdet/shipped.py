"""The configs that come with the package.

They are in the checkout or, after installation from a wheel, below ``deqdet/.mim``, as in mmdet.
"""

import os.path as osp
from difflib import get_close_matches
from pathlib import Path
from typing import Dict, Union

from .errors import UsageError


def find_config(name: Union[str, Path]) -> Path:
    """Find a config file by its path, or by its name if it comes with the package.

    Args:
        name (str or Path): A file, or a name such as ``deqdet_r50_2x_coco``, with or without folder and
            ``.py``.

    Raises:
        UsageError: If neither a file nor a config of that name exists.
    """
    if osp.isfile(osp.expanduser(name)):
        return Path(name).expanduser()
    wanted = str(name)[:-len('.py')] if str(name).endswith('.py') else str(name)
    configs = _configs()
    found = [path for key, path in configs.items() if f'/{key}'.endswith(f'/{wanted}')]
    if found:
        # `configs` comes first: a file in projects/configs only refers to the config of the same name there.
        return found[0]
    names = {path.stem for path in configs.values()}
    near = get_close_matches(wanted.rpartition('/')[2], names, n=1, cutoff=0.8)
    raise UsageError(f'config file {name} does not exist (searched from {osp.abspath("")})'
                     + (f': did you mean {near[0]}?' if near else ''), 'missing-file')


def shipped_folder() -> Path:
    """Folder of ``configs`` and ``tools``: the checkout or, installed from a wheel, ``deqdet/.mim``."""
    package = Path(__file__).resolve().parent
    return package / '.mim' if (package / '.mim').is_dir() else package.parents[1]


def _configs() -> Dict[str, Path]:
    """Configs by their path in the checkout without ``.py``; those in ``configs`` come first."""
    top = shipped_folder()
    return {path.relative_to(top).with_suffix('').as_posix(): path
            for folder in ('configs', 'projects/configs')
            for path in sorted((top / folder).rglob('*.py')) if '_base_' not in path.parts}
