"""Solvers and tolerances of the DEQ head, from its config."""

import inspect
from typing import Annotated, Any, Callable, Dict, List, Optional, Sequence, Union

from mmengine.logging import print_log
from pydantic import Field
from torch import Tensor

from ...equilibrium import SOLVERS, Solver, Tolerance
from ...errors import UsageError
from ...settings import check, check_arguments, check_keys
from ..state import AnyState, content_residual, position_residual


def _content_distance(before: AnyState, after: AnyState) -> Tensor:
    return content_residual(before, after).relative


def _position_distance(before: AnyState, after: AnyState) -> Tensor:
    return position_residual(before, after).absolute


#: What a tolerance limits, by part: the content relative to its length, the position in pixels.
DISTANCES: Dict[str, Callable] = dict(content=_content_distance, position=_position_distance)

# Of mmdet's heads with masks and samplers.
_OF_TRAINING = ('mask_size', 'debug')


def build_solver(cfg: Union[dict, Solver, None], *, name: str) -> Solver:
    """A solver from its config.

    Args:
        cfg (dict, optional): ``type``, a key of ``SOLVERS``, and the arguments of its constructor. None is
            plain iteration. A solver is returned as it is.
        name (str): Names the config key in messages.

    Raises:
        UsageError: If there is no such solver, or it has no such argument or value.
    """
    if isinstance(cfg, Solver):
        return cfg
    if cfg is not None and not isinstance(cfg, dict):
        raise UsageError(f'{name}={cfg!r} must be a dict with a type: {name}.type={cfg}')
    options = dict(cfg or dict(type='iterate'))
    kind = options.pop('type', None)
    if kind is None:
        raise UsageError(f'{name}: the type is missing: {name}.type={" or ".join(SOLVERS)}')
    if kind not in SOLVERS:
        raise UsageError(f'{name}: type {kind!r} must be one of {", ".join(SOLVERS)}')
    known = list(inspect.signature(SOLVERS[kind]).parameters)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(f'{name}: {kind} has no argument {unknown[0]!r}; it has '
                         f'{", ".join(known) or "none"}')
    check_arguments(SOLVERS[kind], options, prefix=f'{name}: ')
    return SOLVERS[kind](**options)


def build_tolerance(cfg: Optional[dict], *, name: str) -> Optional[Tolerance]:
    """A tolerance from its config.

    Args:
        cfg (dict, optional): Limits: ``content``, relative, and ``position``, in pixels; at least one.
        name (str): Names the config key in messages.

    Returns:
        Tolerance: None where the config is.

    Raises:
        UsageError: If there is no such part, or a limit is negative.
    """
    if cfg is not None and not isinstance(cfg, dict):
        raise UsageError(f'{name}={cfg!r} must be a dict of limits: {name}.content=0.2 {name}.position=0.5')
    if not cfg:
        return None
    for part, limit in cfg.items():
        if part not in DISTANCES:
            raise UsageError(f'{name}: no part {part!r}; there are {", ".join(DISTANCES)}')
        check(limit, Annotated[float, Field(ge=0)], name=f'{name}: {part}')
    return Tolerance({part: (DISTANCES[part], limit) for part, limit in cfg.items()})


def check_matching(train_cfg: Union[dict, Sequence[dict], None], *, used: int = 1) -> None:
    """``train_cfg.rcnn`` has only what is read, or was for another head of mmdet.

    What has no effect though it says something is named in one line.

    Args:
        train_cfg (dict or list[dict], optional): Matching, for all layers or for each.
        used (int): Entries of a list that are used, the last of them for all layers after it.

    Raises:
        UsageError: Naming the nearest setting.
    """
    entries: List[Any] = list(train_cfg) if isinstance(train_cfg, (list, tuple)) else [train_cfg]
    for number, entry in enumerate(entries):
        name = 'train_cfg.rcnn' + (f'.{number}' if isinstance(train_cfg, (list, tuple)) else '')
        check_keys(entry, ('assigner', 'sampler', 'pos_weight'), name=name, others=_OF_TRAINING)
        idle = [key for key in _OF_TRAINING if (entry or {}).get(key)]
        if idle:
            print_log(f'{name}: {" and ".join(idle)} without effect: only mmdet\'s other heads read it',
                      logger='current', level=30)
        elif number >= used and entry != entries[used - 1]:
            print_log(f'{name} has no effect: train_cfg.rcnn.{used - 1} serves all layers from there on',
                      logger='current', level=30)
