"""Settings of a prediction: one record, an argument of the call."""

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
# Operators of mmcv, and their arguments in batched_nms. Limits of number and scores are not among them: use
# max_per_img and score_thr.
_SUPPRESSIONS = dict(nms=('nms', ('iou_threshold', 'class_agnostic', 'split_thr')),
                     soft_nms=('softnms', ('iou_threshold', 'sigma', 'min_score', 'method', 'class_agnostic',
                                           'split_thr')))
_Below1 = Annotated[float, Field(ge=0, lt=1)]
_LIMITS: Dict[str, Any] = dict(
    iou_threshold=Share, sigma=Annotated[float, Field(gt=0, allow_inf_nan=False)], min_score=_Below1,
    method=Literal['naive', 'linear', 'gaussian'], class_agnostic=Flag, split_thr=Positive)
# Settings for the number of refinements: (smallest value, refinements minus value). `refinement_steps` does
# not count the last refinement; `num_stages` also counts the initialisation.
_COUNTS = dict(refinements=(0, 0), refinement_steps=(0, 1), num_stages=(1, -1))


@dataclass(frozen=True)
class PredictionSettings:
    """How one call solves the equilibrium and selects detections.

    Each head has its own settings from ``test_cfg.rcnn``; :meth:`PredictsWithSettings.prediction_with` makes
    changed ones.

    Attributes:
        refinements (int): Maximum number of applications of the refinement layer, including the last one:
            ``refinement_steps`` + 1, or ``num_stages`` - 1. 0 for a stacked decoder.
        solver (Solver): Solver of the equilibrium.
        tolerance (Tolerance, optional): Decides when an image is solved.
        solve_dtype (str, optional): Half precision for solving.
        finish_steps (int): Steps in float32 after those in half precision.
        max_per_img (int): Maximum number of detections per image.
        score_thr (float): Detections have scores above it; 0 keeps all.
        nms (Suppression, optional): Suppresses overlapping detections of the same class.
        mask_thr_binary (float): With a mask head: probability above which a pixel belongs to an object.
        mask_scores (bool): With a mask head: rate masks by the score times the mean probability of their
            pixels (Mask2Former, section 3), in ``mask_scores``; boxes keep their scores.
    """

    refinements: Count = 0
    solver: Solver = Iterate()
    tolerance: Optional[Tolerance] = None
    solve_dtype: HalfType = None
    finish_steps: Count = 2
    max_per_img: Positive = 100
    score_thr: _Below1 = 0.0
    nms: Optional[Suppression] = None
    mask_thr_binary: Share = 0.5
    mask_scores: Flag = False

    def __post_init__(self) -> None:
        check_arguments(type(self), vars(self), prefix='settings: ')

    @property
    def steps(self) -> int:
        """Steps of the solver: all refinements except the last one, which makes the prediction."""
        return max(self.refinements - 1, 0)

    @property
    def selection(self) -> dict:
        """The settings that are arguments of :func:`select_detections`."""
        return dict(max_per_img=self.max_per_img, score_thr=self.score_thr, nms=self.nms)


class PredictsWithSettings:
    """Mixin of the heads: holds the settings of a head and makes changed ones.

    Attributes:
        prediction (PredictionSettings): Settings of the head, read from ``test_cfg.rcnn`` once, when the head
            is built. To predict in another way, pass the result of :meth:`prediction_with` to a call, or
            assign it here.
        test_settings (tuple[str, ...]): Keys of ``test_cfg.rcnn`` that this head reads in addition to
            ``max_per_img``, ``score_thr`` and ``nms``.
        default_refinements (int): Refinements of a prediction if ``test_cfg`` does not set them; 0 for a
            decoder without equilibrium.
    """

    prediction: PredictionSettings
    test_cfg: Optional[dict]
    test_settings: Tuple[str, ...] = ()
    default_refinements: int = 0

    def set_prediction(self, test_cfg: Optional[dict], *, default_refinements: int) -> None:
        """Set the settings of the head, see :meth:`prediction_of`."""
        self.default_refinements = default_refinements
        self.prediction = self.prediction_of(test_cfg)
        self._test_cfg_read = deepcopy(test_cfg)
        # Registers the weights of a learned solver.
        self.prediction_solver = self.prediction.solver

    def prediction_of(self, test_cfg: Optional[dict]) -> PredictionSettings:
        """The settings of a config.

        Args:
            test_cfg (dict, optional): ``test_cfg.rcnn``; None gives the default of a setting.

        Raises:
            UsageError: If a setting is unknown or its value is not allowed.
        """
        return replace(PredictionSettings(refinements=self.default_refinements), **self._read(test_cfg))

    def prediction_with(self, **changes: Any) -> PredictionSettings:
        """The head's settings with changes: ``head.prediction_with(refinement_steps=4, score_thr=0.3)``.

        Args:
            **changes: Keys of ``test_cfg.rcnn``, or ``refinements``; None gives the default of a setting.

        Raises:
            UsageError: If a setting is unknown or its value is not allowed.
        """
        more = ['refinements'] if self.test_settings else []
        return replace(self.prediction, **self._read(changes, *more))

    def setting_for(self, refinements: int) -> str:
        """The setting in ``test_cfg.rcnn`` for this number of refinements; empty if none exists."""
        for word, (least, more) in _COUNTS.items():
            if word in self.test_settings and refinements - more >= least:
                return f'{word}={refinements - more}'
        return ''

    def _read(self, cfg: Optional[dict], *more: str) -> Dict[str, Any]:
        """Fields of the record from a config."""
        check_keys(cfg, ('max_per_img', 'score_thr', 'nms', *self.test_settings, *more), name=_NAME,
                   others=('mask_thr_binary', 'mask_scores'))
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
            else:
                found[key] = getattr(PredictionSettings, key) if value is None else value
        check_arguments(PredictionSettings, found, prefix=f'{_NAME}.')
        return found

    def settings_or_own(self, settings: Optional[PredictionSettings]) -> PredictionSettings:
        """The settings of a call.

        Args:
            settings (PredictionSettings, optional): Settings from the caller; None means those of the head.

        Raises:
            UsageError: If this decoder does not support a setting, or if ``test_cfg`` was changed.
        """
        if settings is None:
            if self.test_cfg != self._test_cfg_read:
                raise UsageError(
                    'model.roi_head.test_cfg was changed after the head was built; restore it, and set '
                    'model.roi_head.prediction = model.roi_head.prediction_with(score_thr=0.3)',
                    'bad-argument')
            return self.prediction
        if not isinstance(settings, PredictionSettings):
            raise UsageError(f'settings={settings!r} must be made by model.roi_head.prediction_with(...)',
                             'bad-argument')
        name = type(self).__name__
        for field in fields(PredictionSettings):
            value = getattr(settings, field.name)
            if field.name in ('solver', 'tolerance', 'solve_dtype') and value != field.default \
                    and field.name not in self.test_settings:
                raise UsageError(f'settings: {field.name} has no effect in a {name}; remove it',
                                 'bad-argument')
        if bool(self.test_settings) < bool(settings.refinements) \
                or 'refinement_steps' in self.test_settings and not settings.refinements:
            raise UsageError(f'settings: a {name} cannot predict with {settings.refinements!r} refinements; '
                             'use prediction_with(...) of the same head', 'bad-argument')
        return settings


def _suppression(cfg: Optional[dict], *, name: str) -> Optional[Suppression]:
    """``test_cfg.rcnn.nms``."""
    if cfg is None:
        return None
    if not isinstance(cfg, dict):
        raise UsageError(f"{name}={cfg!r} must be a dict, such as dict(type='nms', iou_threshold=0.5)",
                         'bad-setting')
    options = dict(cfg)
    kind = options.pop('type', 'nms')
    if kind not in _SUPPRESSIONS:
        raise UsageError(f'{name}: unknown type {kind!r}; use {" or ".join(_SUPPRESSIONS)}', 'unknown-type')
    operator, known = _SUPPRESSIONS[kind]
    check_keys(options, known, name=name)
    options.setdefault('iou_threshold', 0.3 if kind == 'soft_nms' else None)
    for key, value in options.items():
        check(value, _LIMITS[key], name=f'{name}: {key}')
    if not has_operator(operator):
        raise UsageError(f"{name}: {kind} needs mmcv with compiled operators, which is not installed; use "
                         "dict(type='nms', iou_threshold=0.5)", 'missing-package')
    return Suppression(kind, tuple(options.items()))


_READERS: Dict[str, Callable] = dict(solver=build_solver, tolerance=build_tolerance, nms=_suppression)
