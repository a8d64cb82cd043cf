"""How a head predicts: one record, which travels as an argument of the call."""

from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Callable, Dict, Literal, Optional, Tuple

from pydantic import Field

from ...compat.mmcv_ops import has_operator
from ...equilibrium import Iterate, Solver, Tolerance
from ...errors import UsageError
from ...settings import Count, Flag, Positive, Share, check, check_arguments, check_keys, check_whole
from ..selection import Suppression
from .precision import HalfType
from .solving import build_solver, build_tolerance

_NAME = 'test_cfg.rcnn'
# Operators of mmcv, and their arguments of batched_nms. Those that limit the number or the scores are left to
# max_per_img and score_thr.
_SUPPRESSIONS = dict(nms=('nms', ('iou_threshold', 'class_agnostic', 'split_thr')),
                     soft_nms=('softnms', ('iou_threshold', 'sigma', 'min_score', 'method', 'class_agnostic',
                                           'split_thr')))
_Below1 = Annotated[float, Field(ge=0, lt=1)]
_LIMITS: Dict[str, Any] = dict(
    iou_threshold=Share, sigma=Annotated[float, Field(gt=0, allow_inf_nan=False)], min_score=_Below1,
    method=Literal['naive', 'linear', 'gaussian'], class_agnostic=Flag, split_thr=Positive)
# Words for the number of refinements: the least, and how many refinements are more. `refinement_steps` leaves
# the last one out, of `num_stages` the first is the initialisation.
_COUNTS = dict(refinements=(0, 0), refinement_steps=(0, 1), num_stages=(1, -1))


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

    refinements: Count = 0
    solver: Solver = Iterate()
    tolerance: Optional[Tolerance] = None
    solve_dtype: HalfType = None
    finish_steps: Count = 2
    max_per_img: Positive = 100
    score_thr: _Below1 = 0.0
    nms: Optional[Suppression] = None

    def __post_init__(self) -> None:
        check_arguments(type(self), vars(self), prefix='settings: ')

    @property
    def steps(self) -> int:
        """Steps of the solver: the refinements but for the last one, which makes the prediction."""
        return max(self.refinements - 1, 0)

    @property
    def selection(self) -> dict:
        """The arguments of :func:`select_detections` among them."""
        return dict(max_per_img=self.max_per_img, score_thr=self.score_thr, nms=self.nms)


class PredictsWithSettings:
    """Part of the heads: their own settings, and others made from them.

    Attributes:
        prediction (PredictionSettings): The head's own settings, read from ``test_cfg.rcnn`` when the head is
            built and never again. To predict in another way give a call the record of
            :meth:`prediction_with`, or assign that here.
        test_settings (tuple[str, ...]): What this head reads of ``test_cfg.rcnn`` beside ``max_per_img``,
            ``score_thr`` and ``nms``.
        default_refinements (int): Refinements of a prediction where ``test_cfg`` sets none; 0 of a decoder
            without equilibrium.
    """

    prediction: PredictionSettings
    test_cfg: Optional[dict]
    test_settings: Tuple[str, ...] = ()
    default_refinements: int = 0

    def set_prediction(self, test_cfg: Optional[dict], *, default_refinements: int) -> None:
        """Read the head's own settings, see :meth:`prediction_of`."""
        self.default_refinements = default_refinements
        self.prediction = self.prediction_of(test_cfg)
        self._test_cfg_read = deepcopy(test_cfg)
        # Registers the weights of a solver that has some.
        self.prediction_solver = self.prediction.solver

    def prediction_of(self, test_cfg: Optional[dict]) -> PredictionSettings:
        """The settings of a config.

        Args:
            test_cfg (dict, optional): ``test_cfg.rcnn``; what is None has its default.

        Raises:
            UsageError: If there is no such setting or value.
        """
        return replace(PredictionSettings(refinements=self.default_refinements), **self._read(test_cfg))

    def prediction_with(self, **changes: Any) -> PredictionSettings:
        """The head's own settings, but for some: ``head.prediction_with(refinement_steps=4, score_thr=0.3)``.

        Args:
            **changes: In the words of ``test_cfg.rcnn``, or ``refinements``; None is the default of each.

        Raises:
            UsageError: If there is no such setting or value.
        """
        more = ['refinements'] if self.test_settings else []
        return replace(self.prediction, **self._read(changes, *more))

    def setting_for(self, refinements: int) -> str:
        """What in ``test_cfg.rcnn`` makes a prediction take so many refinements; empty where nothing does."""
        for word, (least, more) in _COUNTS.items():
            if word in self.test_settings and refinements - more >= least:
                return f'{word}={refinements - more}'
        return ''

    def _read(self, cfg: Optional[dict], *more: str) -> Dict[str, Any]:
        """Fields of the record from a config."""
        # `mask_thr_binary` is of mmdet's heads with masks, which do not exist here yet.
        ignored = ('mask_thr_binary', )
        check_keys(cfg, ('max_per_img', 'score_thr', 'nms', *self.test_settings, *more), name=_NAME,
                   others=ignored)
        found: Dict[str, Any] = {}
        for key, value in (cfg or {}).items():
            name = f'{_NAME}.{key}'
            if key in _COUNTS:
                least, offset = _COUNTS[key]
                if value is not None:
                    check_whole(value, name=name, least=least)
                    found['refinements'] = value + offset
                else:
                    found.setdefault('refinements', self.default_refinements)
            elif key in _READERS:
                found[key] = _READERS[key](value, name=name)
            elif key not in ignored:
                found[key] = getattr(PredictionSettings, key) if value is None else value
        check_arguments(PredictionSettings, found, prefix=f'{_NAME}.')
        return found

    def settings_or_own(self, settings: Optional[PredictionSettings]) -> PredictionSettings:
        """The settings of a call.

        Args:
            settings (PredictionSettings, optional): What the caller gave; None means the head's own.

        Raises:
            UsageError: If they ask for what this decoder does not do.
        """
        if settings is None:
            if self.test_cfg != self._test_cfg_read:
                raise UsageError('model.roi_head.test_cfg was changed after the head was built: instead set '
                                 'model.roi_head.prediction = model.roi_head.prediction_with(score_thr=0.3)')
            return self.prediction
        if not isinstance(settings, PredictionSettings):
            raise UsageError(f'settings={settings!r}: give what model.roi_head.prediction_with(...) makes')
        name = type(self).__name__
        for field in fields(PredictionSettings):
            value = getattr(settings, field.name)
            if field.name in ('solver', 'tolerance', 'solve_dtype') and value != field.default \
                    and field.name not in self.test_settings:
                raise UsageError(f'settings: {field.name} has no effect in a {name}; leave it out')
        if bool(self.test_settings) < bool(settings.refinements) \
                or 'refinement_steps' in self.test_settings and not settings.refinements:
            raise UsageError(f'settings: a {name} cannot predict with {settings.refinements!r} refinements')
        return settings


def _suppression(cfg: Optional[dict], *, name: str) -> Optional[Suppression]:
    """``test_cfg.rcnn.nms``."""
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
    options.setdefault('iou_threshold', 0.3 if kind == 'soft_nms' else None)
    for key, value in options.items():
        check(value, _LIMITS[key], name=f'{name}: {key}')
    if not has_operator(operator):
        raise UsageError(f"{name}: {kind} needs mmcv with compiled operators, which is not installed: use "
                         "dict(type='nms', iou_threshold=0.5)")
    return Suppression(kind, tuple(options.items()))


_READERS: Dict[str, Callable] = dict(solver=build_solver, tolerance=build_tolerance, nms=_suppression)
