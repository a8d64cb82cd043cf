"""Settings of the equilibrium for one call."""

from typing import Any, Dict, Optional, Union

from mmdet.structures import SampleList
from mmengine.model import BaseModel

from ..errors import UsageError
from ..model.detector import DEQDet, predict_batch
from ..model.heads import PredictionSettings
from ..model.heads.prediction import PredictsWithSettings
from ..model.heads.solving import build_tolerance
from .words import parse_solver

# Pixels of the network's input per relative change of the content of 1. It is the ratio of the limits that
# were measured on the digits: 0.1 with 0.25 px and 0.2 with 0.5 px.
_PIXELS = 2.5

Tolerances = Union[float, Dict[str, float]]


def tolerance_config(tol: Tolerances, *, name: str = 'tol') -> Dict[str, float]:
    """Limits by part.

    Args:
        tol (float or dict): Limits for ``content``, relative, and ``position``, in pixels of the network's
            input. A number sets the content limit, and 2.5 times as many pixels.
        name (str): Name of the option in messages.

    Raises:
        UsageError: If a part is unknown, or a limit is not a number of at least 0.
    """
    limits: Any = tol
    if _is_number(tol):
        limits = dict(content=tol, position=_PIXELS * tol)  # type: ignore[operator]
    if not isinstance(limits, dict) or not limits or not all(map(_is_number, limits.values())):
        raise UsageError(f'{name}={tol!r} must be a number, or a dict of limits, for example '
                         'dict(content=0.1, position=0.25)', 'bad-argument')
    build_tolerance(limits, name=name)
    return dict(limits)


def check_steps(steps: int, *, name: str = 'steps') -> None:
    """Raise a UsageError unless it is a whole number of at least 0."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UsageError(f'{name}={steps!r} must be a whole number, 0 or more', 'bad-argument')


def check_decoding(model: BaseModel, *, steps: Optional[int] = None, tol: Optional[Tolerances] = None,
                   solver: Union[str, dict, None] = None) -> Dict[str, Any]:
    """Settings of the decoder, as arguments of :meth:`prediction_with`.

    Args:
        model (BaseModel): The detector.
        steps (int, optional): Maximum number of refinements before the last one, as in ``refinement_steps``.
        tol (float or dict, optional): See :func:`tolerance_config`.
        solver (str or dict, optional): See :func:`parse_solver`.

    Returns:
        dict: Arguments of :meth:`prediction_with`.

    Raises:
        UsageError: If one of them is invalid, or the decoder solves no equilibrium.
    """
    changes: Dict[str, Any] = {}
    head: Any = getattr(model, 'roi_head', None)
    if steps is not None:
        check_steps(steps)
        changes.update(refinements=steps + 1)
    if tol is not None:
        changes.update(tolerance=tolerance_config(tol))
    if solver is not None:
        changes.update(solver=parse_solver(solver, name='solver'))
    if changes and not hasattr(head, 'fixed_point_problem'):
        told = ' and '.join(name for name, value in dict(steps=steps, tol=tol, solver=solver).items()
                            if value is not None)
        raise UsageError(f'{told}: the decoder of this config, {type(head or model).__name__}, solves no '
                         f'equilibrium: remove {told}', 'unsupported-decoder')
    return changes


def settings_of(model: BaseModel, **settings: Any) -> Optional[PredictionSettings]:
    """The settings of a call.

    Args:
        model (BaseModel): The detector.
        **settings: ``steps``, ``tol`` and ``solver`` of :func:`check_decoding`; None keeps the config's.

    Returns:
        PredictionSettings: None for a decoder without settings, such as mmdet's.
    """
    changes = check_decoding(model, **settings)
    head: Any = getattr(model, 'roi_head', None)
    if not isinstance(head, PredictsWithSettings):
        return None
    return head.prediction_with(**changes) if changes else head.prediction


def predict_with(model: BaseModel, batch: dict, settings: Optional[PredictionSettings]) -> SampleList:
    """Predict a collated batch, with settings for this call only.

    Args:
        model (BaseModel): The detector.
        batch (dict): From a data loader.
        settings (PredictionSettings, optional): From :func:`settings_of`.
    """
    if settings is None:
        return model.test_step(batch)
    if isinstance(model, DEQDet):
        return model.test_step(batch, settings=settings)
    # A detector of mmdet with a head of this package, as in DEQ Sparse R-CNN.
    return predict_batch(model, **model.data_preprocessor(batch, False), settings=settings)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
