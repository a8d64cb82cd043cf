"""Solvers and tolerances of the DEQ head, from its config."""

import inspect
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.logging import print_log
from torch import Tensor

from ...equilibrium import SOLVERS, SolvingPath, Tolerance
from ...errors import UsageError
from ...settings import check_keys, is_finite, is_whole
from ..state import AnyState, content_residual, position_residual


def _content_distance(before: AnyState, after: AnyState) -> Tensor:
    return content_residual(before, after).relative


def _position_distance(before: AnyState, after: AnyState) -> Tensor:
    return position_residual(before, after).absolute


#: What a tolerance limits, by part: the content relative to its length, the position in pixels.
DISTANCES: Dict[str, Callable] = dict(content=_content_distance, position=_position_distance)

# Of mmdet's heads with masks and samplers.
_OF_TRAINING = ('mask_size', 'debug')

# Set by the head, not by a config.
_OWN = ('step', 'state', 'num_steps', 'perturb', 'keep', 'observe', 'measure', 'tolerance', 'rule',
        'pack', 'unpack', 'options')


@dataclass(frozen=True)
class Solver:
    """A solver with its arguments, which are checked where :func:`build_solver` makes it.

    Attributes:
        kind (str): A key of ``SOLVERS``.
        options (tuple[tuple[str, object], ...]): Its own arguments.
    """

    kind: str = 'iterate'
    options: Tuple[Tuple[str, Any], ...] = ()

    def __call__(self, step: Callable, state: Any, num_steps: int, **options: Any) -> SolvingPath:
        """Solve; the other arguments are those of every solver, see :func:`iterate`."""
        solve = SOLVERS[self.kind]
        if 'pack' in inspect.signature(solve).parameters:
            options.update(pack=_pack, unpack=_unpack)
        return solve(step, state, num_steps, **dict(self.options), **options)


def build_solver(cfg: Optional[dict], *, name: str) -> Solver:
    """A solver from its config.

    Args:
        cfg (dict, optional): ``type``, a key of ``SOLVERS``, and the solver's own arguments. None is plain
            iteration.
        name (str): Names the config key in messages.

    Returns:
        Solver: ``solver(step, state, num_steps, ...) -> SolvingPath``.

    Raises:
        UsageError: If there is no such solver, or it has no such argument or value.
    """
    if cfg is not None and not isinstance(cfg, dict):
        raise UsageError(f'{name}={cfg!r} must be a dict with a type: {name}.type={cfg}')
    options = dict(cfg or dict(type='iterate'))
    kind = options.pop('type', None)
    if kind is None:
        raise UsageError(f'{name}: the type is missing: {name}.type={" or ".join(SOLVERS)}')
    if kind not in SOLVERS:
        raise UsageError(f'{name}: type {kind!r} must be one of {", ".join(SOLVERS)}')
    parameters = inspect.signature(SOLVERS[kind]).parameters
    known = [parameter for parameter in parameters if parameter not in _OWN]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(f'{name}: {kind} has no argument {unknown[0]!r}; it has '
                         f'{", ".join(known) or "none"}')
    if not is_whole(options.get('memory', 1)) or options.get('memory', 1) < 1:
        raise UsageError(f'{name}: memory={options["memory"]!r} must be at least 1, a whole number')
    if not is_finite(options.get('damping', 0)) or not 0 <= options.get('damping', 0) < 1:
        raise UsageError(f'{name}: damping={options["damping"]!r} must be from 0 to below 1')
    if not is_finite(options.get('regularisation', 0)) or options.get('regularisation', 0) < 0:
        raise UsageError(f'{name}: regularisation={options["regularisation"]!r} must be 0 or more')
    if not options.get('weight_bound', 1) >= 1:
        raise UsageError(f'{name}: weight_bound={options["weight_bound"]!r} must be 1 or more')
    return Solver(kind, tuple(options.items()))


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
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit >= 0:
            raise UsageError(f'{name}: {part}={limit!r} must be 0 or more')
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


def _pack(state: AnyState):
    return state.pack()


def _unpack(parts, answered: AnyState):
    return answered.unpack(parts)
