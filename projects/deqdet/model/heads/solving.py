"""Solvers and tolerances of the DEQ heads, from configs."""

import inspect
from dataclasses import fields
from typing import Annotated, Any, Callable, Dict, List, Optional, Sequence, Union

from mmengine.logging import print_log
from pydantic import Field
from torch import Tensor

from ...equilibrium import SOLVERS, Solver, Tolerance
from ...errors import UsageError
from ...settings import check, check_arguments, check_keys
from ..masks import MaskTraining
from ..state import AnyState, content_residual, position_residual


def _content_distance(before: AnyState, after: AnyState) -> Tensor:
    return content_residual(before, after).relative


def _position_distance(before: AnyState, after: AnyState) -> Tensor:
    return position_residual(before, after).absolute


#: Distances that a tolerance limits: the content relative to its length, the position in pixels.
DISTANCES: Dict[str, Callable] = dict(content=_content_distance, position=_position_distance)

# Settings of mask heads, and of other heads of mmdet.
_OF_MASKS = tuple(field.name for field in fields(MaskTraining))
_OF_OTHERS = ('debug', )


def build_solver(cfg: Union[dict, Solver, None], *, name: str) -> Solver:
    """Build a solver from its config.

    Args:
        cfg (dict, optional): ``type``, a key of ``SOLVERS``, and the arguments of its constructor. None means
            plain iteration. A solver is returned unchanged.
        name (str): Name of the config key in messages.

    Raises:
        UsageError: If the solver or an argument is unknown, or a value is not allowed.
    """
    if isinstance(cfg, Solver):
        return cfg
    if cfg is not None and not isinstance(cfg, dict):
        raise UsageError(f'{name}={cfg!r} must be a dict with a type; use {name}.type={cfg}', 'bad-setting')
    options = dict(cfg or dict(type='iterate'))
    kind = options.pop('type', None)
    if kind is None:
        raise UsageError(f'{name}: the type is missing; use {name}.type={" or ".join(SOLVERS)}',
                         'bad-setting')
    if kind not in SOLVERS:
        raise UsageError(f'{name}: unknown type {kind!r}; use {" or ".join(SOLVERS)}', 'unknown-type')
    known = list(inspect.signature(SOLVERS[kind]).parameters)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(f'{name}: {kind} has no argument {unknown[0]!r}; it has '
                         f'{", ".join(known) or "none"}', 'unknown-setting')
    check_arguments(SOLVERS[kind], options, prefix=f'{name}: ')
    return SOLVERS[kind](**options)


def build_tolerance(cfg: Optional[dict], *, name: str) -> Optional[Tolerance]:
    """Build a tolerance from its config.

    Args:
        cfg (dict, optional): Limits: ``content``, relative, and ``position``, in pixels; at least one.
        name (str): Name of the config key in messages.

    Returns:
        Tolerance: None if the config is None or empty.

    Raises:
        UsageError: If a part is unknown or a limit is negative.
    """
    check_keys(cfg, DISTANCES, name=name)
    if not cfg:
        return None
    for part, limit in cfg.items():
        check(limit, Annotated[float, Field(ge=0)], name=f'{name}: {part}')
    return Tolerance({part: (DISTANCES[part], limit) for part, limit in cfg.items()})


def check_matching(train_cfg: Union[dict, Sequence[dict], None], *, used: int = 1,
                   masks: bool = False) -> None:
    """Check that ``train_cfg.rcnn`` has only known settings; report those without effect, one line each.

    Args:
        train_cfg (dict or list[dict], optional): Matching, for all layers or for each layer.
        used (int): Number of entries of a list that are used; the last of them serves all later layers.
        masks (bool): The head has masks.

    Raises:
        UsageError: Names the most similar setting.
    """
    entries: List[Any] = list(train_cfg) if isinstance(train_cfg, (list, tuple)) else [train_cfg]
    for number, entry in enumerate(entries):
        name = 'train_cfg.rcnn' + (f'.{number}' if isinstance(train_cfg, (list, tuple)) else '')
        check_keys(entry, ('assigner', 'sampler', 'pos_weight'), name=name, others=(*_OF_MASKS, *_OF_OTHERS))
        idle = [key for key in (*(() if masks else _OF_MASKS), *_OF_OTHERS) if (entry or {}).get(key)]
        if idle:
            print_log(f'{name}: {" and ".join(idle)} has no effect, because this model has no head that uses '
                      'it', logger='current', level=30)
        elif number >= used and entry != entries[used - 1]:
            print_log(f'{name} has no effect: all later layers use train_cfg.rcnn.{used - 1}',
                      logger='current', level=30)
