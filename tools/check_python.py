"""Check whether an interpreter is suitable: `check_python.py` for Python, `--torch` for its torch.

It runs before anything is installed, so it uses only the standard library and old syntax.
"""

import sys

OLDEST_PYTHON = (3, 11)  # the pinned packages require it
OLDEST_TORCH = (2, 5)  # the first that loads checkpoints safely


def suitable_torch():
    """Whether torch can be imported and is new enough."""
    try:
        import torch
    except Exception:  # a broken torch may raise anything
        return False
    return tuple(int(part) for part in torch.__version__.split('.')[:2]) >= OLDEST_TORCH


if __name__ == '__main__':
    if '--torch' in sys.argv[1:]:
        sys.exit(0 if suitable_torch() else 1)
    if sys.version_info < OLDEST_PYTHON:
        sys.exit('error: Python %s is too old for the pinned packages, which need %d.%d or newer: use '
                 '`make PYTHON=python3.11`'
                 % ((sys.version.split()[0], ) + OLDEST_PYTHON))
