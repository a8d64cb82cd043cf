"""Compare the speed of decoder and training step with the released form, in alternating runs, as ratios."""

from copy import deepcopy
from functools import partial
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

import torch

from ..analysis.reference import training_step
from ..analysis.timing import Stopwatch, take_turns
from ..analysis.trial import form_of, random_batch
from ..model.heads.precision import supported_dtype
from .detectors import build, config_of
from .findings import Finding, Setting, failed, measured


def check_decoder_speed(setting: Setting) -> Iterator[Finding]:
    """Time the decoder of a prediction, from feature levels to the last refinement."""
    model, batch, where = _detector(setting)
    model.eval()
    batch = model.data_preprocessor(batch, False)
    with torch.no_grad():
        features = model.extract_feat(batch['inputs'])
        proposals = model.rpn_head.predict(features, batch['data_samples'])

    @torch.no_grad()
    def run(form):
        watch = Stopwatch()
        with watch.part('decoder'):
            form.roi_head.forward(features, proposals, batch['data_samples'])
        return watch.seconds

    forms = {name: partial(run, form_of(model, **changes))
             for name, changes in _prediction_forms(setting).items()}
    yield from _compared('decoder', where, forms, setting)


def check_training_speed(setting: Setting) -> Iterator[Finding]:
    """Time losses and backward pass, from images."""
    model, batch, where = _detector(setting)
    model.train()
    batch = model.data_preprocessor(batch, True)

    def run(form, dtype):
        watch = Stopwatch()
        form.zero_grad()
        torch.manual_seed(0)  # all forms draw the same coins
        with watch.part('training step'):
            training_step(form, batch['inputs'], deepcopy(batch['data_samples']), dtype=dtype)
        return watch.seconds

    forms = {'reference form': partial(run, form_of(model, reference=True), None),
             'default': partial(run, form_of(model), None)}
    if supported_dtype('bfloat16', setting.device.type):
        forms['default, bfloat16'] = partial(run, form_of(model), torch.bfloat16)
    if setting.on_gpu:
        forms['triton'] = partial(run, form_of(model, sampling='triton'), None)
    yield from _compared('training step', where, forms, setting)


def _detector(setting: Setting) -> Tuple[Any, Dict[str, Any], str]:
    """A detector with random weights, a batch for it, and a description of their sizes."""
    if setting.quick:
        config, shape, images = config_of(), (96, 96), 2
    elif setting.on_gpu:
        config, shape, images = config_of('deqdet_r50_2x_coco', queries=300, steps=20), (800, 1344), 1
    else:
        config, shape, images = config_of('deqdet_r50_1x_coco', queries=100, steps=6), (320, 320), 1
    model = build(config, setting.device)
    queries, steps = config.model.rpn_head.num_proposals, config.model.roi_head.refinement_steps
    where = f'{queries} queries, {steps} steps, {images} x {shape[0]}x{shape[1]}'
    return model, random_batch(model, shape, images=images), where


def _prediction_forms(setting: Setting) -> Dict[str, Dict[str, Any]]:
    forms: Dict[str, Dict[str, Any]] = {'reference form': dict(reference=True), 'default': {}}
    half = dict(prediction=dict(solve_dtype='bfloat16'))
    if supported_dtype('bfloat16', setting.device.type):
        forms['bfloat16'] = half
    if setting.on_gpu:
        forms.update({
            'CUDA graph': dict(compiled=True), 'bfloat16, CUDA graph': dict(half, compiled=True),
            'triton': dict(sampling='triton'), 'triton, bfloat16': dict(half, sampling='triton')})
    return forms


def _compared(what: str, where: str, forms: Mapping[str, Callable[[], Mapping[str, float]]],
              setting: Setting) -> Iterator[Finding]:
    """Median times of alternating runs and their ratios. A form that fails is left out."""
    working, peaks = {}, {}
    for name, run in forms.items():
        try:
            peaks[name] = _peak_of(run, setting)
            working[name] = run
        except Exception as error:
            yield failed(f'{what}: {name}', error)
    times = {name: sum(seconds.values())
             for name, seconds in take_turns(working, 1 if setting.quick else setting.rounds).items()}
    first = next(iter(forms))
    for name, seconds in times.items():
        ratio = '' if first not in times or name == first else f', {seconds / times[first]:.2f} of {first}'
        yield measured(f'{what}: {name}', f'{1000 * seconds:.1f} ms{ratio}{peaks[name]} ({where})',
                       milliseconds=1000 * seconds,
                       ratio=seconds / times[first] if first in times else None)


def _peak_of(run: Callable[[], object], setting: Setting) -> str:
    """Run once; describe the peak memory of tensors on a GPU."""
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    run()
    return f', peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB' if setting.on_gpu else ''
