"""Imports yapf, which mmengine needs to format configs, while other workers may write its cache."""

import importlib
import os
import pickle
import time
from pathlib import Path

from ..errors import UsageError

_TRIES = 20
_SECONDS_BETWEEN = 0.25


def import_yapf() -> None:
    """Import yapf, even while another worker writes its cache.

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
                cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'YAPF')
                raise UsageError(f'yapf, which formats configs, cannot read its cache ({error}): delete the '
                                 f'folder {cache}', 'missing-package') from error
            time.sleep(_SECONDS_BETWEEN)
