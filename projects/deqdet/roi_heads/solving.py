"""Solvers and tolerances of the DEQ head, from its config."""

import inspect
from functools import partial
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

from ..equilibrium import SOLVERS, Tolerance
from ..errors import UsageError
from ..settings import check_keys, check_whole
from ..state import AnyState, content_residual, position_residual

#: What a tolerance limits, by part: the content relative to its length, the position in pixels.
DISTANCES = dict(content=lambda before, after: content_residual(before, after).relative,
                  position=lambda before, after: position_residual(before, after).absolute)

# Of mmdet's heads; they stay legal in configs that came from such a one. There is no NMS here.
_OF_TEST = ('score_thr', 'nms', 'mask_thr_binary')
_OF_TRAINING = ('mask_size', 'debug')

# Set by the head, not by a config.
_OWN = ('step', 'state', 'num_steps', 'perturb', 'keep', 'observe', 'measure', 'tolerance', 'rule',
        'pack', 'unpack', 'options')


def build_solver(cfg: Optional[dict], *, name: str) -> Callable:
    """A solver from its config.

    Args:
        cfg (dict, optional): ``type``, a key of ``SOLVERS``, and the solver's own arguments. None is plain
            iteration.
        name (str): Names the config key in messages.

    Returns:
        Callable: ``solver(step, state, num_steps, ...) -> SolvingPath``.

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
    if not isinstance(options.get('memory', 1), int) or options.get('memory', 1) < 1:
        raise UsageError(f'{name}: memory={options["memory"]!r} must be at least 1, a whole number')
    if not 0 <= options.get('damping', 0) < 1:
        raise UsageError(f'{name}: damping={options["damping"]!r} must be from 0 to below 1')
    if options.get('regularisation', 0) < 0:
        raise UsageError(f'{name}: regularisation={options["regularisation"]!r} must be 0 or more')
    if not options.get('weight_bound', 1) >= 1:
        raise UsageError(f'{name}: weight_bound={options["weight_bound"]!r} must be 1 or more')
    if 'pack' in parameters:
        options.update(pack=_pack, unpack=_unpack)
    return partial(SOLVERS[kind], **options)


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
        if not limit >= 0:
            raise UsageError(f'{name}: {part}={limit!r} must be 0 or more')
    return Tolerance({part: (DISTANCES[part], limit) for part, limit in cfg.items()})


def check_settings(train_cfg: Union[dict, Sequence[dict], None], test_cfg: Optional[dict],
                   known: Sequence[str] = ()) -> None:
    """``train_cfg.rcnn`` and ``test_cfg.rcnn`` have only what is read, or was for another head of mmdet.

    Args:
        train_cfg (dict or list[dict], optional): Matching, for all layers or for each.
        test_cfg (dict, optional): Settings of prediction.
        known (Sequence[str]): What the head reads of it beside ``max_per_img``.

    Raises:
        UsageError: Naming the nearest setting that there is.
    """
    entries: List[Any] = list(train_cfg) if isinstance(train_cfg, (list, tuple)) else [train_cfg]
    for number, entry in enumerate(entries):
        name = 'train_cfg.rcnn' + (f'.{number}' if isinstance(train_cfg, (list, tuple)) else '')
        check_keys(entry, ('assigner', 'sampler', 'pos_weight'), name=name, others=_OF_TRAINING)
    check_keys(test_cfg, ('max_per_img', *known), name='test_cfg.rcnn', others=_OF_TEST)
    check_whole((test_cfg or {}).get('max_per_img', 1), name='test_cfg.rcnn.max_per_img', least=1)


def prediction_solver(test_cfg: Optional[dict]) -> Tuple[Callable, Optional[Tolerance]]:
    """Solver and tolerance of prediction.

    Args:
        test_cfg (dict, optional): ``test_cfg.rcnn`` of a config, its ``solver`` and ``tolerance``.
    """
    config = test_cfg or {}
    return (build_solver(config.get('solver'), name='test_cfg.rcnn.solver'),
            build_tolerance(config.get('tolerance'), name='test_cfg.rcnn.tolerance'))


def _pack(state: AnyState):
    return state.pack()


def _unpack(parts, answered: AnyState):
    return answered.unpack(parts)
