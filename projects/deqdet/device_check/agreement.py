"""Compare ways to compute the same: back ends of the sampling, and the compiled refinement."""

from copy import deepcopy
from typing import Any, Iterator, Tuple

import torch
from torch import Tensor

from ..errors import UsageError
from ..model.heads.compiled import Compiler
from ..model.sampling import BACK_ENDS, make_pyramid
from .detectors import build, config_of, contracting, problem
from .findings import Finding, Setting, SkippedError, attempt, bounded, judged, measured
from .golden_checks import exact_products

#: Bound on relative errors (by norm) of values and gradients. A position among some hundred cells has an
#: error of about 1e-5 cells.
_SAMPLING_BOUND = 1e-4
#: Bound for the end of a contracting path.
_PATH_BOUND = 1e-3


def check_sampling(setting: Setting) -> Iterator[Finding]:
    """Compare every back end of the sampling with `grid_sample`, including gradients."""
    case = _sampling_case(setting)
    expected = _value_and_gradients('grid', *case)
    for back_end in BACK_ENDS:
        if back_end != 'grid':
            yield from attempt(f'sampling {back_end} against grid', _compare_back_end, back_end, case,
                               expected)


def _compare_back_end(back_end: str, case: Tuple, expected: Tuple[Tensor, ...]) -> Iterator[Finding]:
    try:
        found = _value_and_gradients(back_end, *case)
    except UsageError as error:
        raise SkippedError(error.message) from error
    errors = [float((one - other).norm() / other.norm()) for one, other in zip(found, expected)]
    yield bounded(f'sampling {back_end} against grid: values', errors[0], _SAMPLING_BOUND)
    worst = max(errors[1:], key=lambda error: (error != error, error))
    yield bounded(f'sampling {back_end} against grid: gradients', worst, _SAMPLING_BOUND)


def _sampling_case(setting: Setting) -> Tuple:
    """Features of four levels, points (some outside the image), and strides."""
    channels, height, queries = (64, 32, 20) if setting.quick or not setting.on_gpu else (256, 128, 300)
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, channels, height >> level, (height >> level) + 1, generator=generator)
                for level in range(4)]
    points = torch.rand(2, queries, 4, 32, 3, generator=generator)
    points = points * torch.tensor([5.0 * height, 5.0 * height, 6.0])
    return [level.to(setting.device) for level in features], points.to(setting.device), (4, 8, 16, 32)


def _value_and_gradients(back_end, features, points, strides):
    """Value and gradients of a sum with random weights."""
    leaves = [leaf.clone().requires_grad_() for leaf in (*features, points)]
    value = make_pyramid(leaves[:-1], strides, back_end).sample(leaves[-1])
    weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)
    return (value.detach(), *torch.autograd.grad((value * weight).sum(), leaves))


def check_compiled(setting: Setting) -> Iterator[Finding]:
    """Compare the compiled refinement (on a GPU a CUDA graph) with the eager one."""
    name = 'compiled refinement' + (' (CUDA graph)' if setting.on_gpu else '')
    model: Any = contracting(build(config_of(), setting.device))
    model.roi_head.sampling = 'grid' if setting.on_gpu else 'rows'
    compiled: Any = deepcopy(model)
    compiled.roi_head.compiler = Compiler()
    skips = _graph_skips()
    ends = []
    with exact_products(), torch.no_grad():
        for some in (model, compiled, compiled):  # the second compiled run replays the graph
            pyramid, state = problem(some, (96, 96))
            start = some.roi_head.bbox_head[0](pyramid, state, classify=False)
            ends.append(some.roi_head.prediction_path(pyramid, start).final)
    reason = compiled.roi_head.compiler.problem
    if reason and not setting.on_gpu:
        raise SkippedError(f'cannot be compiled here: {reason}')
    if reason:
        yield judged(name, False, f'cannot be compiled: {reason}')
        return
    for part in ('content', 'box'):
        expected = getattr(ends[0], part)
        error = max(float((getattr(end, part) - expected).norm() / expected.norm()) for end in ends[1:])
        yield bounded(f'{name} against eager: {part}', error, _PATH_BOUND)
    if setting.on_gpu:
        skips = _graph_skips() - skips
        yield judged(f'{name}: captured', skips == 0, 'as a graph' if skips == 0
                     else f'{skips} programs run without a graph')


def _graph_skips() -> int:
    from torch._dynamo.utils import counters
    return counters['inductor']['cudagraph_skips']


def check_half_path(setting: Setting) -> Iterator[Finding]:
    """Compare the path in half precision, if the device supports it, with float32."""
    from ..model.heads.precision import supported_dtype
    for dtype in ('bfloat16', 'float16'):
        name = f'path in {dtype} against float32'
        if supported_dtype(dtype, setting.device.type) is None:
            yield Finding(name, 'skipped', f'this {setting.device.type} has no instructions for it')
            continue
        yield from attempt(name, _compare_half_path, setting, dtype, name)


def _compare_half_path(setting: Setting, dtype: str, name: str) -> Iterator[Finding]:
    model: Any = contracting(build(config_of(), setting.device))
    contents = []
    with torch.no_grad(), exact_products():
        pyramid, state = problem(model, (96, 96))
        start = model.roi_head.initialise(pyramid, state, classify=False)
        for solve_dtype in (None, dtype):
            settings = model.roi_head.prediction_with(solve_dtype=solve_dtype)
            contents.append(model.roi_head.prediction_path(pyramid, start, settings=settings).final.content)
    error = float((contents[1] - contents[0]).norm() / contents[0].norm())
    yield judged(name, error < 0.05, f'error of the contents {error:.1e}, bound 5e-02', error=error)
    yield measured(f'{name}: finish', f'{settings.finish_steps} steps in float32')
