"""Solve in half precision, finish in float32."""

import pytest
import torch
from deqdet.model.heads import precision
from refusals import refused
from small_model import batch_of, build, contracting, losses_of, path_of, total


@pytest.fixture(params=[pytest.param(False, id='whole', marks=pytest.mark.slow),
                        pytest.param(True, id='in blocks')], autouse=True)
def mixing(request, monkeypatch):
    """Both forms of the mixing."""
    if request.param:
        monkeypatch.setattr('deqdet.model.mixing._IN_BLOCKS_FROM', 0)


@pytest.fixture
def bfloat16(monkeypatch):
    """On every processor: without such instructions torch emulates them."""
    monkeypatch.setattr(precision, 'supported_dtype', lambda dtype, device: getattr(torch, dtype))


def difference(path, expected):
    """Largest relative difference of contents, largest difference of boxes in pixels."""
    content = (path.final.content - expected.final.content).norm(dim=-1) / expected.final.content.norm(dim=-1)
    return content.max(), (path.final.box - expected.final.box).abs().max()


def test_the_finish_forgets_the_rounding_of_the_path(bfloat16):
    expected = path_of(contracting(dict(refinement_steps=60)))
    coarse, finished = (
        path_of(contracting(dict(refinement_steps=60, solve_dtype='bfloat16', finish_steps=finish)))
        for finish in (0, 40))
    # The coarse path has an error of half precision.
    content, box = difference(coarse, expected)
    assert 1e-4 < content < 0.05 and box < 1
    content, box = difference(finished, expected)
    assert content < 1e-4 and box < 1e-2
    assert finished.num_steps == expected.num_steps
    assert all(part.dtype == torch.float32 for part in coarse.final[:3])


@pytest.mark.parametrize('solver', ['iterate', 'anderson'])
def test_each_image_stops_by_itself(bfloat16, solver):
    model = contracting(dict(
        refinement_steps=60, solver=dict(type=solver), solve_dtype='bfloat16', finish_steps=40,
        tolerance=dict(content=0.02, position=0.5)))
    path = path_of(model)
    assert path.reasons == ('tolerance', ) * 3 and max(path.steps) < 60
    for image in range(3):
        # Products of other sizes are rounded differently; in bfloat16 this grows.
        torch.testing.assert_close(path_of(model, slice(image, image + 1)).final.content[0],
                                   path.final.content[image], atol=0.05, rtol=0.05)


def test_steps_and_residuals_of_both_parts_are_recorded(bfloat16):
    path = path_of(contracting(dict(
        refinement_steps=6, solve_dtype='bfloat16', finish_steps=2, tolerance=dict(content=0))))
    assert path.num_steps == 6 and path.steps == (6, 6, 6)
    assert path.residuals['content'].shape == (6, 3)


@pytest.mark.parametrize('finish', [0, 2, 9])
def test_there_may_be_fewer_steps_than_the_finish(bfloat16, finish):
    model = contracting(dict(refinement_steps=0, solve_dtype='bfloat16', finish_steps=finish))
    assert path_of(model).num_steps == 0
    batch = batch_of(model)
    results = model.predict(batch['inputs'], batch['data_samples'])
    assert all(torch.isfinite(sample.pred_instances.scores).all() for sample in results)


def test_only_what_has_no_gradient_is_solved_in_half_precision(bfloat16):
    """The start of the unrolled steps moves a little. All states with gradient are in float32."""
    gradients = []
    for dtype in (None, 'bfloat16'):
        model = build(solve_dtype=dtype, perturb_content_prob=0, perturb_position_prob=0)
        losses = losses_of(model)
        total(losses).backward()
        gradients.append((losses, [p.grad for p in model.roi_head.parameters() if p.grad is not None]))
    (precise, expected), (coarse, found) = gradients
    assert precise['init_loss_cls'] == coarse['init_loss_cls']
    for name in ('iter1_loss_cls', 'iter3_loss_cls'):
        torch.testing.assert_close(coarse[name], precise[name], rtol=0.02, atol=0)
    assert any((a != b).any() for a, b in zip(expected, found))
    assert all(gradient.dtype == torch.float32 for gradient in found)


def test_without_instructions_everything_is_float32(monkeypatch, caplog):
    for probe in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'):
        monkeypatch.setattr(torch.cpu, probe, lambda: False, raising=False)
    precision.supported_dtype.cache_clear()
    expected = path_of(contracting())
    said = []
    monkeypatch.setattr(precision, 'print_log', lambda line, **kwargs: said.append(line))
    for _ in range(2):
        path = path_of(contracting(dict(solve_dtype='bfloat16')))
    assert difference(path, expected) == (0, 0)
    assert len(said) == 1 and 'bfloat16' in said[0]
    precision.supported_dtype.cache_clear()


@pytest.mark.parametrize('settings, words', [
    (dict(solve_dtype='int8'), ["solve_dtype='int8'", 'None', 'bfloat16', 'float16']),
    (dict(solve_dtype='bfloat16', finish_steps=-1), ['finish_steps=-1', '0']),
])
def test_wrong_settings_are_refused(settings, words):
    with refused('bad-setting', *words):
        contracting(settings)
