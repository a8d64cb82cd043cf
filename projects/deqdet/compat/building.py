"""Errors keep the part of the config that was built, or the checkpoint file that was read."""

import functools
import inspect
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Tuple, Type

from mmengine.registry import Registry
from mmengine.runner import CheckpointLoader, Runner

# Parts of a config by the methods of the Runner that read them. `build_NAME` reads NAME.
_PARTS = dict(from_cfg='the run', __init__='the run', set_randomness='randomness', setup_env='env_cfg',
              build_dataloader='a dataloader', scale_lr='auto_scale_lr',
              _init_model_weights='init_cfg of the model')


@contextmanager
def parts_named_in_errors() -> Iterator[None]:
    """Inside, errors keep what was built or read, see :func:`part_of` and :func:`file_of`."""

    def part(registry, cfg, *args, **kwargs):
        return cfg.get('type') or 'a part of it', dict(cfg)

    def file(kind, filename, *args, **kwargs):
        return filename

    build, load = Registry.build, CheckpointLoader.load_checkpoint
    Registry.build = _noting(build, 'part', part)
    CheckpointLoader.load_checkpoint = classmethod(_noting(load.__func__, 'file', file))
    try:
        yield
    finally:
        Registry.build, CheckpointLoader.load_checkpoint = build, load


def names_parts(runner: Type[Runner]) -> Type[Runner]:
    """A Runner whose methods note the part of the config that they read in errors, see :func:`part_of`."""
    for name in dir(runner):
        if name in _PARTS or name.startswith('build_'):
            method = inspect.getattr_static(runner, name)
            part = _PARTS.get(name, name.replace('build_', '')), {}
            function = getattr(method, '__func__', method)
            wrapped: Any = _noting(function, 'part', lambda *_, part=part, **__: part)
            of_class = isinstance(method, (staticmethod, classmethod))
            setattr(runner, name, type(method)(wrapped) if of_class else wrapped)
    return runner


def part_of(error: Exception) -> Tuple[Any, dict]:
    """Type and settings of the innermost part whose building raised the error; None and {} for others."""
    return getattr(error, 'deqdet_part', (None, {}))


def file_of(error: Exception) -> str:
    """The checkpoint whose reading raised the error; 'to load' if it is unknown."""
    return str(getattr(error, 'deqdet_file', 'to load'))


def _noting(function: Callable, kind: str, note: Callable) -> Callable:
    @functools.wraps(function)
    def noting(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if not hasattr(error, f'deqdet_{kind}'):
                try:
                    found = note(*args, **kwargs)
                except Exception:  # unusual arguments or invalid settings
                    found = None
                if found is not None:
                    setattr(error, f'deqdet_{kind}', found)
            raise

    return noting
