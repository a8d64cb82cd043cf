"""The replacement for mmcv's compiled operators: when it is installed, and what it computes.

Values are checked through ``mmcv.ops``, as mmdet calls it. If mmcv is compiled, most checks test its
operators.
"""

import importlib.util
import math
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from deqdet.compat import mmcv_ops, torch_ops
from deqdet.compat import roi_align as torch_roi_align
from deqdet.compat.mmcv_ops import install_mmcv_ops
from hypothesis import given, settings
from hypothesis import strategies as st

STAND_IN = install_mmcv_ops()
needs_stand_in = pytest.mark.skipif(
    not STAND_IN, reason='mmcv has compiled operators here, so the stand-in is not in use')
PLUGIN = Path(mmcv_ops.__file__).parents[1]


def ops():
    """``mmcv.ops``. It is imported here, so that an import error fails the test."""
    import mmcv.ops
    return mmcv.ops


def run(script, *args):
    """Runs a script in a fresh interpreter, with deqdet.compat but without deqdet/__init__.py."""
    prelude = f"""
        import sys, types
        package = types.ModuleType('deqdet')
        package.__path__ = [{str(PLUGIN)!r}]
        sys.modules['deqdet'] = package
        """
    code = textwrap.dedent(prelude) + textwrap.dedent(script)
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *map(str, args)],
                          capture_output=True, text=True, timeout=120)


# When it is installed


@pytest.mark.slow
@needs_stand_in
def test_mmdet_can_be_imported_after_harmless_imports():
    done = run("""
        import mmdet.registry, mmdet.utils, mmdet.structures, mmdet.version
        try:
            import mmcv.ops
        except ImportError:
            pass
        from deqdet.compat.mmcv_ops import install_mmcv_ops
        assert install_mmcv_ops() is True
        stand_in = sys.modules['mmcv._ext']
        assert install_mmcv_ops() is True and sys.modules['mmcv._ext'] is stand_in
        import mmcv.ops, mmdet.apis, mmdet.models
        from mmcv.ops import get_compiler_version
        print(get_compiler_version())
        """)
    assert done.returncode == 0, done.stderr
    assert 'plain PyTorch' in done.stdout


@pytest.mark.slow
@needs_stand_in
def test_mmdet_imported_before_is_an_error_that_says_what_to_do():
    done = run("""
        try:
            import mmdet.structures.mask
        except ImportError:
            pass
        from deqdet.compat.mmcv_ops import install_mmcv_ops
        install_mmcv_ops()
        """)
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith('ImportError: mmdet was imported before deqdet'), done.stderr
    assert 'Put `import deqdet` above' in message


@pytest.mark.parametrize('names, spoiled', [
    (['mmdet', 'mmdet.version', 'mmdet.registry', 'mmdetection', 'mmcv.ops'], []),
    (['mmdet', 'mmdet.utils', 'mmdet.utils.misc', 'mmdet.structures',
      'mmdet.structures.det_data_sample'], []),
    (['mmdet', 'mmdet.utils', 'mmdet.utils.large_image'], ['mmdet.utils.large_image']),
    # A failed import leaves the submodules without their package.
    (['mmdet', 'mmdet.utils.misc'], ['mmdet.utils.misc']),
    (['mmdet', 'mmdet.models.layers.activations'], ['mmdet.models.layers.activations']),
    (['mmdet', 'mmdet.structures', 'mmdet.structures.mask'], ['mmdet.structures.mask']),
])
def test_which_modules_are_spoiled(names, spoiled):
    assert mmcv_ops._spoiled_mmdet_modules(names) == spoiled


@pytest.mark.slow
def test_compiled_module_is_left_alone(tmp_path):
    (tmp_path / '_ext.py').write_text('real = True\n')
    done = run("""
        import mmcv
        mmcv.__path__.insert(0, sys.argv[1])
        from deqdet.compat.mmcv_ops import install_mmcv_ops
        assert install_mmcv_ops() is False and install_mmcv_ops() is False
        assert sys.modules['mmcv._ext'].real and mmcv._ext.real
        """, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('error', ['ImportError', 'OSError'])
def test_compiled_module_that_cannot_be_loaded_is_an_error(tmp_path, monkeypatch, error):
    (tmp_path / '_ext.py').write_text(f'raise {error}("undefined symbol: _ZN2at4_ops")\n')
    monkeypatch.setattr(mmcv, '__path__', [str(tmp_path), *mmcv.__path__])
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    with pytest.raises(ImportError, match='undefined symbol: _ZN2at4_ops.*Reinstall mmcv'):
        install_mmcv_ops()
    assert 'mmcv._ext' not in sys.modules


@needs_stand_in
def test_other_operators_fail_when_called():
    message = "'softnms' needs mmcv with compiled operators.*onedl-mmcv.*MMCV_WITH_OPS=1"
    with pytest.raises(NotImplementedError, match=message):
        ops().soft_nms(torch.rand(2, 4), torch.rand(2))
    assert not hasattr(mmcv._ext, '__path__')


@needs_stand_in
def test_mmcv_sees_that_it_has_no_compiled_operators():
    from mmcv.utils.ext_loader import check_ops_exist
    assert importlib.util.find_spec('mmcv._ext').name == 'mmcv._ext'
    assert check_ops_exist() is False


# NMS

BOXES = torch.tensor([[0., 0., 10., 10.], [0., 0., 10., 5.], [20., 0., 30., 10.],
                      [1., 0., 11., 10.]])


@pytest.mark.parametrize('threshold, offset, expected', [
    # IoU of boxes 0 and 1: 50 / 100; 0 and 3: 90 / 110; 1 and 3: 45 / 105.
    (0.40, 0, [2, 1]),
    (0.45, 0, [2, 1, 3]),
    (0.80, 0, [2, 1, 3]),
    (0.85, 0, [2, 1, 3, 0]),
    # With offset 1: 66 / 121, 110 / 132 and 60 / 127.
    (0.45, 1, [2, 1]),
    (0.48, 1, [2, 1, 3]),
])
def test_nms_values(threshold, offset, expected):
    scores = torch.tensor([0.3, 0.8, 0.9, 0.5])
    dets, keep = ops().nms(BOXES, scores, threshold, offset)
    assert keep.tolist() == expected
    assert torch.equal(dets, torch.cat([BOXES, scores[:, None]], 1)[keep])


def test_nms_drops_only_above_the_threshold():
    assert ops().nms(BOXES[:2], torch.tensor([0.9, 0.8]), 0.5)[1].tolist() == [0, 1]
    assert ops().nms(BOXES[:2], torch.tensor([0.9, 0.8]), 0.4999)[1].tolist() == [0]


def test_nms_offset_counts_the_last_pixel():
    # Two boxes that share one edge: no common area, but a common column of pixels.
    boxes = torch.tensor([[0., 0., 1., 1.], [1., 0., 2., 1.]])
    assert len(ops().nms(boxes, torch.tensor([0.9, 0.8]), 0.3, 0)[1]) == 2
    assert len(ops().nms(boxes, torch.tensor([0.9, 0.8]), 0.3, 1)[1]) == 1  # 2 / 6


def test_nms_chain():
    # 0 suppresses 1. 2 overlaps only 1, which is gone, so 2 stays.
    boxes = torch.tensor([[0., 0., 10., 1.], [4., 0., 14., 1.], [8., 0., 18., 1.]])
    assert ops().nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.4)[1].tolist() == [0, 2]


def test_nms_of_nothing_and_of_boxes_without_area():
    assert ops().nms(torch.zeros(0, 4), torch.zeros(0), 0.5)[1].shape == (0, )
    assert ops().nms(torch.ones(2, 4), torch.tensor([0.5, 0.6]), 0.5)[1].tolist() == [1, 0]


@needs_stand_in
def test_nms_ties_keep_the_order_and_numpy_stays_numpy():
    _, keep = ops().nms(BOXES.numpy(), np.full(4, 0.5, np.float32), 0.45)
    assert isinstance(keep, np.ndarray) and keep.tolist() == [0, 2]


def test_torchvision_does_not_change_the_result_of_nms(monkeypatch):
    torch.manual_seed(0)
    boxes = torch.rand(700, 4) * torch.tensor([100., 100., 30., 30.])
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.rand(700)
    monkeypatch.setattr(torch_ops, '_torchvision_nms', lambda device: None)
    expected = torch_ops.nms(boxes, scores, 0.3, 0)
    monkeypatch.undo()
    # torchvision built for another torch fails when its operator is called.
    broken = types.ModuleType('torchvision.ops')
    broken.nms = lambda *args: torch.ops.torchvision.nms(*args)
    monkeypatch.setitem(sys.modules, 'torchvision', types.ModuleType('torchvision'))
    monkeypatch.setitem(sys.modules, 'torchvision.ops', broken)
    monkeypatch.setattr(torch_ops, '_torchvision_nms', torch_ops._torchvision_nms.__wrapped__)
    assert torch.equal(torch_ops.nms(boxes, scores, 0.3, 0), expected)


def box_iou(a, b):
    width = max(0., min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0., min(a[3], b[3]) - max(a[1], b[1]))
    area = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return width * height / (area - width * height)


BOX = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2, st.integers(0, 5))


@settings(deadline=None, max_examples=60)
@given(st.lists(BOX, min_size=1, max_size=30), st.sampled_from([0.1, 0.31, 0.57, 0.7]),
       st.sampled_from([1, 7, 256]))
def test_nms_keeps_the_best_of_each_overlap(rows, threshold, block):
    boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in rows]
    scores = [score / 5 for *_, score in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_ops, '_NMS_BLOCK', block)
        keep = ops().nms(torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores), threshold)[1]
    keep = keep.tolist()
    assert [scores[i] for i in keep] == sorted((scores[i] for i in keep), reverse=True)
    for n, i in enumerate(keep):
        assert all(box_iou(boxes[i], boxes[j]) <= threshold + 1e-6 for j in keep[:n])
    for i in set(range(len(boxes))) - set(keep):
        assert any(box_iou(boxes[i], boxes[j]) > threshold - 1e-6 and scores[j] >= scores[i]
                   for j in keep)


# RoIAlign


def roi_align(maps, boxes, size=(1, 1), scale=1.0, ratio=2, aligned=True):
    """``mmcv.ops.roi_align`` of boxes in image 0."""
    boxes = torch.as_tensor(boxes, dtype=maps.dtype).reshape(-1, 4)
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
    return ops().roi_align(maps, rois, size, scale, ratio, 'avg', aligned)


def ramp(height=12, width=16, dtype=torch.float32):
    """Map whose value is 100 * row + column, (1, 1, height, width)."""
    return (100 * torch.arange(height, dtype=dtype)[:, None] +
            torch.arange(width, dtype=dtype))[None, None]


@pytest.mark.parametrize('ratio', [0, 1, 2, 3])
def test_roi_align_of_a_ramp_is_the_ramp_at_the_bin_centres(ratio):
    # In an image of stride 2, the RoI covers x 3..9 and y 2..6 of the map, in 3 x 2 bins.
    box = [[6., 4., 18., 12.]]
    expected = torch.tensor([[304., 306., 308.], [504., 506., 508.]])
    out = roi_align(ramp(), box, (2, 3), 0.5, ratio, aligned=False)[0, 0]
    assert torch.allclose(out, expected, atol=1e-3)
    # Aligned, pixel i has its centre at i + 0.5, so the ramp at x is x - 0.5.
    out = roi_align(ramp(), box, (2, 3), 0.5, ratio, aligned=True)[0, 0]
    assert torch.allclose(out, expected - 50.5, atol=1e-3)


def test_roi_align_at_the_border():
    row = torch.tensor([[1., 2., 3., 4.]]).repeat(4, 1)[None, None]

    def at(x):
        """The value at one point: the centre of a RoI with one bin and one sample."""
        return roi_align(row, [x - 0.5, 1., x + 0.5, 2.], ratio=1, aligned=False).item()

    assert [at(x) for x in (0., 0.5, 2.25, 3.)] == [1., 1.5, 3.25, 4.]
    # Up to a pixel outside, the nearest pixel; farther out, zero.
    assert [at(x) for x in (-0.5, -1., -1.25)] == [1., 1., 0.]
    assert [at(x) for x in (3.5, 4., 4.25)] == [4., 4., 0.]


def test_roi_align_outside_counts_as_zero():
    ones = torch.ones(1, 2, 8, 8)
    # Samples at x = -1.5 and 0.5 (aligned), both at y inside: half of them are inside.
    assert roi_align(ones, [-2., 2., 2., 6.]).flatten().tolist() == [0.5, 0.5]
    assert roi_align(ones, [20., 20., 30., 30.], (2, 2)).abs().sum() == 0


def test_roi_align_of_an_empty_roi():
    box = [3., 3., 3., 3.]
    # Not aligned, the RoI is at least one pixel wide and high; aligned, the samples are at the exact place.
    assert roi_align(ramp(), box, aligned=False).item() == pytest.approx(353.5)
    assert roi_align(ramp(), box, aligned=True).item() == pytest.approx(252.5)
    assert roi_align(ramp(), box, ratio=0, aligned=True).item() == 0  # no pixels, no samples
    assert roi_align(ramp(), []).shape == (0, 1, 1, 1)


def naive_roi_align(image, box, size, scale, ratio, aligned):
    """The definition, sample by sample: image (H, W) as nested lists, box (x1, y1, x2, y2)."""
    extent = len(image), len(image[0])
    lows = [box[1] * scale - aligned / 2, box[0] * scale - aligned / 2]
    lengths = [(box[3] - box[1]) * scale, (box[2] - box[0]) * scale]
    if not aligned:
        lengths = [max(length, 1) for length in lengths]
    bins = [length / n for length, n in zip(lengths, size)]
    grid = [ratio or math.ceil(round(b, 5)) for b in bins]  # mmcv rounds in float32

    def value(*point):
        if any(p < -1 or p > n for p, n in zip(point, extent)):
            return 0.
        point = [min(max(p, 0), n - 1) for p, n in zip(point, extent)]
        return sum(
            image[y][x] * max(0, 1 - abs(point[0] - y)) * max(0, 1 - abs(point[1] - x))
            for y in range(extent[0]) for x in range(extent[1]))

    return [[
        sum(value(lows[0] + (p + (i + .5) / grid[0]) * bins[0],
                  lows[1] + (q + (j + .5) / grid[1]) * bins[1])
            for i in range(grid[0]) for j in range(grid[1])) / (grid[0] * grid[1] or 1)
        for q in range(size[1])] for p in range(size[0])]


# The result jumps if a sample is exactly one pixel outside the map. The odd offset of the corners keeps
# samples away from such places, where rounding decides.
CORNER = st.integers(-48, 160).map(lambda n: n / 16 + 0.0137)
LENGTH = st.integers(1, 144).map(lambda n: n / 16)


@settings(deadline=None, max_examples=60)
@given(CORNER, CORNER, LENGTH, LENGTH, st.integers(0, 3), st.booleans(), st.sampled_from([1, 5]),
       st.integers(0, 99))
def test_roi_align_follows_its_definition(x, y, width, height, ratio, aligned, channels, seed):
    image = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    box = [x, y, x + width, y + height]
    # Maps of few channels, such as masks, are sampled in another way.
    out = roi_align(image.expand(1, channels, 5, 7), box, (2, 3), 0.75, ratio, aligned)[0, -1]
    expected = naive_roi_align(image.tolist(), box, (2, 3), 0.75, ratio, aligned)
    assert torch.allclose(out, out.new_tensor(expected), atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.5, 5), st.floats(0.5, 5), st.floats(0.1, 2), st.floats(0.1, 2),
       st.integers(0, 3), st.booleans())
def test_roi_align_of_a_constant_is_the_constant(x, y, width, height, ratio, aligned):
    out = roi_align(torch.full((1, 1, 9, 9), 3.), [x, y, x + width, y + height], (2, 2), 1., ratio,
                    aligned)
    assert torch.allclose(out, torch.tensor(3.))


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align_gradient(ratio, aligned):
    torch.manual_seed(0)
    maps = torch.rand(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0., -1.5, .5, 4., 4.], [1., 1., 1.2, 5.9, 8.], [1., 2., 2., 2.7, 3.]],
                        dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: ops().roi_align(x, rois, (2, 3), 0.9, ratio, 'avg', aligned), [maps])


def test_roi_align_gradient_sums_to_the_share_inside():
    maps = torch.rand(1, 3, 8, 8, requires_grad=True)
    # The samples of the second RoI are half outside, those of the third all.
    out = roi_align(maps, [[1., 1., 6., 7.], [-2., 2., 2., 6.], [20., 20., 30., 30.]])
    for n, share in enumerate([1., .5, 0.]):
        grad, = torch.autograd.grad(out[n].sum(), maps, retain_graph=True)
        assert torch.allclose(grad.sum(dim=(2, 3)), torch.tensor(share))


@needs_stand_in
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_in_steps_is_the_same(monkeypatch, ratio):
    torch.manual_seed(0)
    maps = torch.rand(2, 6, 9, 9, requires_grad=True)
    corner = torch.rand(7, 2) * 6
    rois = torch.cat([torch.arange(7)[:, None] % 2, corner, corner + torch.rand(7, 2) * 9], 1)

    def both():
        out = ops().roi_align(maps, rois, (3, 3), 1.0, ratio, 'avg', True)
        return out, torch.autograd.grad((out**2).sum(), maps)[0]

    whole = both()
    monkeypatch.setattr(torch_roi_align, '_ROI_SAMPLES', 5)
    for one, other in zip(whole, both()):
        assert torch.allclose(one, other, atol=1e-5)


@needs_stand_in
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_of_low_precision_maps(dtype):
    torch.manual_seed(0)
    maps, box = torch.rand(1, 2, 8, 8), [1.3, 2.1, 5.9, 7.7]
    low = maps.to(dtype).requires_grad_()
    rois = torch.tensor([[0., *box]])  # RoIs may be float32
    out = ops().roi_align(low, rois, (3, 3), 1.0, 2, 'avg', True)
    out.float().sum().backward()
    assert out.dtype == low.grad.dtype == dtype
    assert torch.allclose(out.float(), roi_align(maps, box, (3, 3)), atol=1e-2)


@needs_stand_in
def test_roi_align_of_bad_input():
    with pytest.raises(IndexError, match='image index below 1, got 0.0 to 3.0'):
        ops().roi_align(ramp(), torch.tensor([[0., 1., 1., 2., 2.], [3., 1., 1., 2., 2.]]), 2)
    with pytest.raises(NotImplementedError, match="pool_mode='max'"):
        ops().roi_align(ramp(), torch.tensor([[0., 1., 1., 2., 2.]]), 2, 1.0, 2, 'max')
    # A diverged RoI affects only its own output.
    nan = math.nan
    out = roi_align(ramp(), [[nan, nan, nan, nan], [2., 2., 3., 3.]], ratio=0)
    assert out.isnan().flatten().tolist() == [True, False]


# Focal loss


def focal(logit, positive, gamma, alpha):
    p = 1 / (1 + math.exp(-logit))
    p_t, alpha_t = (p, alpha) if positive else (1 - p, 1 - alpha)
    return -alpha_t * (1 - p_t)**gamma * math.log(p_t)


@needs_stand_in
@pytest.mark.parametrize('gamma, alpha', [(2., .25), (0., .5), (1.5, .9)])
def test_focal_loss_values_and_gradient(gamma, alpha):
    torch.manual_seed(0)
    logits = (4 * torch.randn(5, 3, dtype=torch.float64)).requires_grad_()
    target = torch.tensor([0, 2, 3, 1, 3])  # 3 is background
    weight = torch.tensor([.5, 1., 3.], dtype=torch.float64)
    plain = ops().sigmoid_focal_loss(logits, target, gamma, alpha, None, 'none')
    expected = [[focal(logit, target[n] == c, gamma, alpha) for c, logit in enumerate(row)]
                for n, row in enumerate(logits.tolist())]
    assert torch.allclose(plain, plain.new_tensor(expected))
    # The weight of a row is that of its class; background rows have none.
    weighted = ops().sigmoid_focal_loss(logits, target, gamma, alpha, weight, 'none')
    assert torch.allclose(weighted, plain * plain.new_tensor([.5, 3., 1., 1., 1.])[:, None])
    for arguments in [(None, 'mean'), (weight, 'sum'), (weight, 'none')]:
        assert torch.autograd.gradcheck(
            lambda x, last=arguments: ops().sigmoid_focal_loss(x, target, gamma, alpha, *last), [logits])


@needs_stand_in
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_focal_loss_of_large_logits(dtype):
    logits = torch.tensor([[100., 100., -100., -100.]], dtype=dtype).T.requires_grad_()
    target = torch.tensor([0, 1, 0, 1])  # positive, negative, positive, negative
    loss = ops().sigmoid_focal_loss(logits, target, 2.0, 0.25, None, 'none')
    loss.sum().backward()
    assert loss.flatten().tolist() == pytest.approx([0., 75., 25., 0.])
    assert logits.grad.flatten().tolist() == pytest.approx([0., .75, -.25, 0.])
