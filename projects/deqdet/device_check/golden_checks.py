"""The golden cases on this machine, in every precision."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping

import torch
from torch import Tensor

from ..analysis.golden import (
    GoldenCase,
    final_maps,
    golden_cases,
    losses_of_case,
    predictions,
    relative_error,
)
from ..analysis.reference import total
from .findings import Finding, Setting, SkippedError, attempt, bounded, judged, skipped

#: Bounds on relative errors (by norm of a tensor). Rounding errors of float32 grow about threefold per
#: refinement, to 1e-4.
BOUNDS = {'float32': 1e-3, 'float64': 1e-7}
#: Bounds for the scores in automatic mixed precision, which rounds products to 8 or 11 bits in every layer.
HALF_BOUNDS = {'bfloat16': 0.1, 'float16': 0.05}


@contextmanager
def exact_products() -> Iterator[None]:
    """Turn TF32 off: a GPU would round the factors of float32 products to 11 bits."""
    backends: Any = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, flag in zip(backends, before):
            backend.allow_tf32 = flag


def check_golden_cases(setting: Setting) -> Iterator[Finding]:
    """Check every case in float32, float64, bfloat16 and float16."""
    if setting.golden is None:
        raise SkippedError('only a checkout has golden cases, not a wheel: use --golden FOLDER')
    cases = golden_cases(setting.golden)
    if not cases:
        raise SkippedError(f'{setting.golden} has no golden cases')
    for folder in cases:
        setting.check_time()
        with exact_products():
            yield from attempt(f'golden {folder.name}', _check_case, setting, folder)


def _check_case(setting: Setting, folder: Path) -> Iterator[Finding]:
    case = GoldenCase.load(folder)
    name = f'golden {folder.name}'
    for dtype in BOUNDS:
        label = f'{name}, {dtype}'
        yield from attempt(label, _check_full, setting, case, label, dtype)
    for dtype in HALF_BOUNDS:
        label = f'{name}, {dtype}'
        yield from attempt(label, _check_half, setting, case, label, dtype)


def _check_full(setting: Setting, case: GoldenCase, name: str, dtype: str) -> Iterator[Finding]:
    """Predictions and losses, and in float64 also gradients: random weights let rounding errors grow."""
    double = dtype == 'float64'
    expected, what = (case.expected64, 'losses and gradients') if double else (case.expected, 'losses')
    if expected is None:
        raise SkippedError('the case has no expected64.pt')
    model = case.build(getattr(torch, dtype)).to(setting.device)
    batch = case.batch(model)
    yield _compared(f'{name}: predictions', predictions(model.eval(), batch), expected, BOUNDS[dtype])
    maps = final_maps(case, model)
    if maps is not None:
        error = relative_error(maps, case.expected['final.mask_logits'])
        yield bounded(f'{name}: masks', error, BOUNDS['float32'], ', from the final state of the reference')
    if setting.on_gpu and case.draws_noise():
        yield skipped(f'{name}: {what}', 'a GPU draws other noise')
        return
    losses = losses_of_case(case, model.train(), batch)
    found = {f'loss.{key}': value for key, value in losses.items()}
    if double:
        total(losses).backward()
        found.update({f'grad.{key}': p.grad for key, p in model.named_parameters() if p.grad is not None})
    yield _compared(f'{name}: {what}', found, expected, BOUNDS[dtype])


def _check_half(setting: Setting, case: GoldenCase, name: str, dtype: str) -> Iterator[Finding]:
    model = case.build().to(setting.device)
    batch = case.batch(model)
    with torch.autocast(setting.device.type, dtype=getattr(torch, dtype)):
        found = predictions(model.eval(), batch)
        with torch.no_grad():
            losses = losses_of_case(case, model.train(), batch)
    scores = {key: value for key, value in found.items() if key.endswith('scores')}
    error = max(relative_error(value, case.expected[key]) for key, value in scores.items())
    yield bounded(f'{name}: scores', error, HALF_BOUNDS[dtype])
    yield judged(f'{name}: losses', bool(torch.isfinite(total(losses))),
                 f'sum {float(total(losses)):.4g}, in float32 {float(_expected_total(case)):.4g}')


def _expected_total(case: GoldenCase) -> Tensor:
    return total({key: value for key, value in case.expected.items() if key.startswith('loss.')
                  and 'loss' in key[len('loss.'):]})


def _compared(name: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor],
              bound: float) -> Finding:
    """The largest error of any tensor. Labels must be equal, and no tensor may be missing."""
    kinds = {key.partition('.')[0] for key in found}
    wanted = [key for key in expected if key.partition('.')[0] in kinds]
    missing = [key for key in wanted if key not in found]
    if missing:
        return judged(name, False, f'{missing[0]} is missing')
    wrong = [key for key in wanted
             if key.endswith('labels') and not torch.equal(found[key].cpu(), expected[key])]
    if wrong:
        return judged(name, False, f'{wrong[0]} differs')
    errors = {key: relative_error(found[key], expected[key]) for key in wanted if not key.endswith('labels')}
    # NaN counts as the largest error.
    worst = max(errors, key=lambda key: (errors[key] != errors[key], errors[key]))
    return bounded(name, errors[worst], bound, f', {worst}, {len(errors)} tensors')
