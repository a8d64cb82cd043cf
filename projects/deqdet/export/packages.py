"""Checks of packages that only the export needs, and of torch's exporter."""

import importlib
import inspect
import logging
import warnings
from contextlib import contextmanager
from typing import Iterator, Optional, Sequence

import torch
from mmengine.utils import digit_version

from ..errors import UsageError

#: Versions with which the export was tried.
TRIED = dict(torch='2.13', onnx='1.23', onnxscript='0.7', onnxruntime='1.31')

#: Packages that write ONNX, and that run it.
WRITING = ('onnx', 'onnxscript')
RUNNING = ('onnxruntime', )


def require_packages(names: Sequence[str] = WRITING + RUNNING) -> None:
    """Check that the packages of an export are installed.

    Raises:
        UsageError: Names the missing packages, and the command that installs them.
    """
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise UsageError(f'the export needs {" and ".join(missing)}: pip install {" ".join(missing)}, or for '
                         "all packages of the export pip install 'deqdet[export]'", 'missing-package')


def require_exporter() -> None:
    """Check that this torch can convert a program of torch.export to ONNX; raise a UsageError if not."""
    takes = inspect.signature(torch.onnx.export).parameters
    program = getattr(torch.onnx, 'ONNXProgram', None)
    if not {'dynamo', 'optimize', 'opset_version'} <= set(takes) or not hasattr(program, 'model_proto'):
        raise UsageError(f'torch {torch.__version__} cannot write ONNX from a program of torch.export: use a '
                         f'later one, for example torch {TRIED["torch"]}', 'missing-package')


def untried_versions(names: Sequence[str] = tuple(TRIED)) -> Optional[str]:
    """A warning, one line, if versions of these packages differ from :data:`TRIED`; else None."""
    others = []
    for name in names:
        version = importlib.import_module(name).__version__
        if digit_version(version)[:2] != digit_version(TRIED[name])[:2]:
            others.append(f'{name} {version} (tested: {TRIED[name]})')
    if not others:
        return None
    return (f'the export was not tested with {", ".join(others)}; the comparison with PyTorch shows whether '
            'it works')


@contextmanager
def quiet() -> Iterator[None]:
    """Show only errors, not warnings, of packages that write or change a file."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)
