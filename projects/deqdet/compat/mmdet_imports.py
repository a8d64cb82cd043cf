"""Parts of mmdet that print a message at import if optional packages are missing."""

import importlib
import io
import warnings
from contextlib import redirect_stdout
from functools import cache
from typing import Tuple


@cache
def import_mmdet() -> Tuple[str, ...]:
    """Import mmdet's data sets and metrics without their messages.

    Returns:
        tuple[str]: The messages. The user of a command cannot act on them, so a run puts them into its log.
    """
    with redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings(record=True) as caught:
        for name in ('mmdet.datasets', 'mmdet.evaluation'):
            importlib.import_module(name)
    return (*printed.getvalue().splitlines(), *(str(warning.message) for warning in caught))
