"""Imports of packages that would fail or print messages: yapf and parts of mmdet."""

import importlib
import io
import os
import pickle
import time
import warnings
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Tuple

from ..errors import UsageError

_TRIES = 20
_SECONDS_BETWEEN = 0.25


def import_yapf() -> None:
    """Import yapf, which mmengine needs to format configs, even while another worker writes its cache.

    In a new environment each worker of a run writes the cache when it imports yapf. A worker that reads half
    of the cache fails, and tries again.

    Raises:
        UsageError: If the cache stays damaged.
    """
    for left in reversed(range(_TRIES)):
        try:
            importlib.import_module('yapf.yapflib.yapf_api')
            return
        except (EOFError, pickle.UnpicklingError) as error:
            if not left:
                folder = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'YAPF')
                raise UsageError(f'yapf, which formats configs, cannot read its cache ({error}): delete the '
                                 f'folder {folder}', 'missing-package') from error
            time.sleep(_SECONDS_BETWEEN)


@cache
def import_mmdet() -> Tuple[str, ...]:
    """Import mmdet's data sets and metrics without the messages about missing optional packages.

    Returns:
        tuple[str]: The messages. The user of a command cannot act on them, so a run puts them into its log.
    """
    with redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings(record=True) as caught:
        for name in ('mmdet.datasets', 'mmdet.evaluation'):
            importlib.import_module(name)
    return (*printed.getvalue().splitlines(), *(str(warning.message) for warning in caught))
