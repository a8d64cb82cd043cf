"""A solve without tolerance never waits for its device."""

from collections import Counter
from functools import partial
from typing import Any, Callable, Dict, Iterator, Mapping

import torch

from ..equilibrium import Perturbation
from ..model.heads.precision import supported_dtype
from .detectors import build, config_of, contracting, problem
from .findings import Finding, Setting, attempt, judged, skipped
from .synchronisations import cuda_synchronisations, host_synchronisations

#: Settings of ``test_cfg.rcnn``, and the back end of the sampling.
_PREDICTIONS: Dict[str, Dict[str, Any]] = {
    'plain iteration, grid': dict(sampling='grid'),
    'plain iteration, rows': dict(sampling='rows'),
    'plain iteration, triton': dict(sampling='triton'),
    'Anderson': dict(solver=dict(type='anderson', memory=3)),
    'bfloat16': dict(solve_dtype='bfloat16'),
}
#: Runs of one computation: the first is not counted, the second by operators, the third by CUDA.
_RUNS = 3


def check_waiting(setting: Setting) -> Iterator[Finding]:
    """Count the waits in a solve, for each form of prediction and for training."""
    model: Any = contracting(build(config_of(), setting.device))
    for form, changes in _PREDICTIONS.items():
        name = f'waits in a solve: {form}'
        if form.endswith('triton') and not setting.on_gpu:
            continue  # on a CPU it would run in Triton's interpreter, which waits
        if 'solve_dtype' in changes and supported_dtype(changes['solve_dtype'], setting.device.type) is None:
            yield skipped(name, f'this {setting.device.type} has no instructions for it')
            continue
        yield from attempt(name, _counted, setting, name, partial(prediction_of, model, changes))
    name = 'waits in a solve: training path'
    yield from attempt(name, _counted, setting, name, partial(training_path_of, model))


def prediction_of(model: Any, changes: Mapping[str, Any]) -> Callable[[], object]:
    """The decoder of a prediction, from a given pyramid and proposals.

    Args:
        model (nn.Module): A detector with a ``DEQDetRoIHead``; it is modified.
        changes (dict): ``sampling``, and settings of ``test_cfg.rcnn``; all other settings are removed.
    """
    head = model.eval().roi_head
    head.sampling = changes.get('sampling', 'auto')
    settings = head.prediction_with(**{
        'solver': None, 'solve_dtype': None, 'tolerance': None,
        **{key: value for key, value in changes.items() if key != 'sampling'}})
    pyramid, state = problem(model, (96, 96))

    @torch.no_grad()
    def solve():
        start = head.initialise(pyramid, state, classify=False, dtype=settings.solve_dtype)
        return head.predict_from(pyramid, head.prediction_path(pyramid, start, settings=settings).final)

    return solve


def training_path_of(model: Any) -> Callable[[], object]:
    """The solving path of training. Every coin triggers its perturbation."""
    head = model.train().roi_head
    head.sampling = 'auto'
    # The coins are drawn and read on the CPU. There, reading one would count as waiting.
    disturbances = head.perturbation.disturbances
    head.perturbation = Perturbation(disturbances).with_coins(
        torch.zeros(_RUNS * head.refinement_steps, len(disturbances)))
    pyramid, state = problem(model, (96, 96))
    start = head.bbox_head[0](pyramid, state, classify=False).detach()
    return lambda: head.training_path(pyramid, start, keep=head.supervision_position)


def waits_of(run: Callable[[], object], device: str) -> Counter:
    """Where a computation waits for a device: counted by operators, and on a GPU also by CUDA."""
    run()  # GPU libraries are loaded at first use
    with host_synchronisations(device) as places:
        run()
    if device == 'cuda':
        torch.cuda.synchronize()
        with cuda_synchronisations() as reported:
            run()
        places = places + reported
    return places


def _counted(setting: Setting, name: str, make: Callable[[], Callable[[], object]]) -> Iterator[Finding]:
    places = waits_of(make(), setting.device.type)
    detail = ', '.join(f'{count} x {place}' for place, count in places.most_common(3)) or 'none'
    yield judged(name, not places, detail, count=sum(places.values()))
