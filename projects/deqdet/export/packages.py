"""The packages that an export needs and nothing else does."""

import importlib
from typing import Sequence

from ..errors import UsageError

#: What writes ONNX, and what runs it.
WRITING = ('onnx', 'onnxscript')
RUNNING = ('onnxruntime', )


def require_packages(names: Sequence[str] = WRITING + RUNNING) -> None:
    """The packages of an export are installed.

    Args:
        names (Sequence[str]): Names to import.

    Raises:
        UsageError: Naming those that are missing, and the command that installs them.
    """
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise UsageError(f'the export needs {" and ".join(missing)}: pip install {" ".join(missing)}, or all '
                         f'that '
                         "it needs with pip install 'deqdet[export]'")
