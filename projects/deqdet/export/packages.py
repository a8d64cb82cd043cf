"""The packages that an export needs and nothing else does, and what it needs of torch."""

import importlib
import inspect
import logging
import warnings
from contextlib import contextmanager
from typing import Iterator, Optional, Sequence

import torch
from mmengine.utils import digit_version

from ..errors import UsageError

#: Versions that the export was tried with.
TRIED = dict(torch='2.13', onnx='1.23', onnxscript='0.7', onnxruntime='1.31')

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


def require_exporter() -> None:
    """This torch can write ONNX from a program of torch.export.

    Raises:
        UsageError: If it cannot.
    """
    takes = inspect.signature(torch.onnx.export).parameters
    program = getattr(torch.onnx, 'ONNXProgram', None)
    if not {'dynamo', 'optimize', 'opset_version'} <= set(takes) or not hasattr(program, 'model_proto'):
        raise UsageError(f'torch {torch.__version__} cannot write ONNX from a program of torch.export: take '
                         f'a later one, the export was tried with torch {TRIED["torch"]}')


def untried_versions(names: Sequence[str] = tuple(TRIED)) -> Optional[str]:
    """What to say where versions differ from those that the export was tried with.

    Args:
        names (Sequence[str]): Packages that are used.

    Returns:
        str: One line; None where all were tried.
    """
    others = []
    for name in names:
        version = importlib.import_module(name).__version__
        if digit_version(version)[:2] != digit_version(TRIED[name])[:2]:
            others.append(f'{name} {version} ({TRIED[name]} was)')
    if not others:
        return None
    return (f'the export was not tried with {", ".join(others)}; the comparison with PyTorch says whether it '
            'works')


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Packages that write or change a file show errors only, no warnings.

    Args:
        *loggers (str): Names of their loggers.
    """
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(found, levels):
            logger.setLevel(level)
