"""How a head predicts: one record, which travels as an argument of the call."""

from abc import abstractmethod
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any, Optional, Sequence, Tuple

from mmengine.config import ConfigDict

from ...compat.mmcv_ops import has_operator
from ...equilibrium import Tolerance
from ...errors import UsageError
from ...settings import check_keys, check_whole, is_finite, is_whole
from ..selection import Suppression
from .precision import check_solve_dtype
from .solving import Solver, build_solver, build_tolerance

_NAME = 'test_cfg.rcnn'
# Operators of mmcv, and their arguments of batched_nms. Those that limit the number or the scores are left to
# max_per_img and score_thr.
_SUPPRESSIONS = dict(nms=('nms', ('iou_threshold', 'class_agnostic', 'split_thr')),
                     soft_nms=('softnms', ('iou_threshold', 'sigma', 'min_score', 'method', 'class_agnostic',
                                           'split_thr')))


@dataclass(frozen=True)
class PredictionSettings:
    """How an equilibrium is solved and detections are selected, in one call.

    A head has its own, from ``test_cfg.rcnn``; :meth:`PredictsWithSettings.prediction_with` makes others.

    Attributes:
        refinements (int): Applications of the refinement layer, at most, the last one counted:
            ``refinement_steps`` + 1, or ``num_stages`` - 1. 0 of a stacked decoder.
        solver (Solver): Finds the equilibrium.
        tolerance (Tolerance, optional): When an image is solved.
        solve_dtype (str, optional): Half precision to solve in.
        finish_steps (int): Steps in float32 after those in half precision.
        max_per_img (int): Detections of an image, at most.
        score_thr (float): Detections have scores above it; 0 leaves nothing out.
        nms (Suppression, optional): Suppresses detections of the same class that overlap.
    """

    refinements: int = 0
    solver: Solver = Solver()
    tolerance: Optional[Tolerance] = None
    solve_dtype: Optional[str] = None
    finish_steps: int = 2
    max_per_img: int = 100
    score_thr: float = 0.0
    nms: Optional[Suppression] = None

    @property
    def steps(self) -> int:
        """Steps of the solver: the refinements but for the last one, which makes the prediction."""
        return max(self.refinements - 1, 0)

    @property
    def selection(self) -> dict:
        """The arguments of :func:`select_detections` among them."""
        return dict(max_per_img=self.max_per_img, score_thr=self.score_thr, nms=self.nms)


def parse_settings(test_cfg: Optional[dict], *, known: Sequence[str], refinements: int) -> PredictionSettings:
    """The record of ``test_cfg.rcnn``.

    Args:
        test_cfg (dict, optional): The settings; one that is None is the default.
        known (Sequence[str]): What the head reads of it beside ``max_per_img``, ``score_thr`` and ``nms``.
        refinements (int): Of a config that sets none.

    Raises:
        UsageError: If there is no such setting or value.
    """
    # `mask_thr_binary` is of mmdet's heads with masks, which do not exist here yet.
    check_keys(
        test_cfg, ('max_per_img', 'score_thr', 'nms', *known), name=_NAME, others=('mask_thr_binary', ))
    given = {key: value for key, value in (test_cfg or {}).items() if value is not None}
    for key, least in (('max_per_img', 1), ('refinement_steps', 0), ('finish_steps', 0), ('num_stages', 1)):
        check_whole(given.get(key, least), name=f'{_NAME}.{key}', least=least)
    score_thr = given.get('score_thr', 0.0)
    if not is_finite(score_thr) or not 0 <= score_thr < 1:
        raise UsageError(f'{_NAME}.score_thr={score_thr!r} must be a number from 0 to below 1')
    check_solve_dtype(given.get('solve_dtype'), name=f'{_NAME}.solve_dtype')
    if 'refinement_steps' in given:
        refinements = given['refinement_steps'] + 1
    if 'num_stages' in given:  # stage 0 is the initialisation
        refinements = given['num_stages'] - 1
    return PredictionSettings(
        refinements=refinements,
        solver=build_solver(given.get('solver'), name=f'{_NAME}.solver'),
        tolerance=build_tolerance(given.get('tolerance'), name=f'{_NAME}.tolerance'),
        score_thr=score_thr, nms=_suppression(given.get('nms')),
        **{key: given[key] for key in ('solve_dtype', 'finish_steps', 'max_per_img') if key in given})


class PredictsWithSettings:
    """Part of the heads: their own settings, and others made from them.

    Attributes:
        test_cfg (dict): ``test_cfg.rcnn`` of the config, of this head alone. It is read when the head is
            built; who changes it later changes how all later calls predict.
        test_settings (tuple[str, ...]): What this head reads of it beside ``max_per_img``, ``score_thr`` and
            ``nms``.
    """

    test_cfg: Any
    test_settings: Tuple[str, ...] = ()

    @property
    @abstractmethod
    def default_refinements(self) -> int:
        """Refinements of a prediction where ``test_cfg`` sets none."""

    @property
    def prediction(self) -> PredictionSettings:
        """The head's own settings.

        Raises:
            UsageError: If ``test_cfg`` has been changed to something that cannot be meant.
        """
        cfg, default = self.test_cfg or {}, self.default_refinements
        known, record = self.__dict__.get('_parsed', (None, None))
        if known != (cfg, default):
            record = parse_settings(cfg, known=self.test_settings, refinements=default)
            # In one assignment: another thread sees the old pair or the new one.
            self.__dict__['_parsed'] = ((deepcopy(cfg), default), record)
        return record

    def prediction_with(self, **changes: Any) -> PredictionSettings:
        """The head's own settings, but for some: ``head.prediction_with(refinement_steps=4, score_thr=0.3)``.

        Args:
            **changes: In the words of ``test_cfg.rcnn``; None is the default of each.

        Raises:
            UsageError: If there is no such setting or value.
        """
        return parse_settings({**(self.test_cfg or {}), **changes}, known=self.test_settings,
                              refinements=self.default_refinements)

    def settings_or_own(self, settings: Optional[PredictionSettings]) -> PredictionSettings:
        """The settings of a call.

        Args:
            settings (PredictionSettings, optional): What the caller gave; None means the head's own.

        Raises:
            UsageError: If they ask for what this decoder does not do.
        """
        if settings is None:
            return self.prediction
        if not isinstance(settings, PredictionSettings):
            raise UsageError(f'settings={settings!r}: give what model.roi_head.prediction_with(...) makes')
        name = type(self).__name__
        for field in fields(PredictionSettings):
            value = getattr(settings, field.name)
            if field.name in ('solver', 'tolerance', 'solve_dtype') and value != field.default \
                    and field.name not in self.test_settings:
                raise UsageError(f'settings: {field.name} has no effect in a {name}; leave it out')
        if not is_whole(settings.refinements) or settings.refinements < 0 \
                or bool(self.test_settings) < bool(settings.refinements) \
                or 'refinement_steps' in self.test_settings and not settings.refinements:
            raise UsageError(f'settings: a {name} cannot predict with {settings.refinements!r} refinements')
        return settings


def own_copy(test_cfg: Optional[dict]) -> Any:
    """Settings for one head: mmdet hands the config itself to all models that are built from it."""
    return ConfigDict() if test_cfg is None else deepcopy(test_cfg)


def _suppression(cfg) -> Optional[Suppression]:
    """``test_cfg.rcnn.nms``."""
    name = f'{_NAME}.nms'
    if cfg is None:
        return None
    if not isinstance(cfg, dict):
        raise UsageError(f"{name}={cfg!r} must be a dict: dict(type='nms', iou_threshold=0.5)")
    options = dict(cfg)
    kind = options.pop('type', 'nms')
    if kind not in _SUPPRESSIONS:
        raise UsageError(f'{name}: type {kind!r} must be one of {", ".join(_SUPPRESSIONS)}')
    operator, known = _SUPPRESSIONS[kind]
    check_keys(options, known, name=name)
    overlap: Any = options.setdefault('iou_threshold', 0.3 if kind == 'soft_nms' else None)
    if not is_finite(overlap) or not 0 <= overlap <= 1:
        raise UsageError(f'{name}: iou_threshold={overlap!r} must be a number from 0 to 1')
    for key, good, what in (
            ('sigma', lambda value: is_finite(value) and value > 0, 'a number above 0'),
            ('min_score', lambda value: is_finite(value) and 0 <= value < 1, 'a number from 0 to below 1'),
            ('method', ('naive', 'linear', 'gaussian').__contains__, 'naive, linear or gaussian'),
            ('class_agnostic', lambda value: isinstance(value, bool), 'True or False'),
            ('split_thr', lambda value: is_whole(value) and value > 0, 'at least 1, a whole number')):
        if key in options and not good(options[key]):
            raise UsageError(f'{name}: {key}={options[key]!r} must be {what}')
    if not has_operator(operator):
        raise UsageError(f"{name}: {kind} needs mmcv with compiled operators, which is not installed: use "
                         "dict(type='nms', iou_threshold=0.5)")
    return Suppression(kind, tuple(options.items()))
