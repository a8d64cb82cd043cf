"""Masks of an exported file: maps as in PyTorch, and pasted masks as the detector predicts them."""

import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch
from deqdet import export
from deqdet.export.agreement import prepare
from deqdet.export.masks import Masks, probabilities
from deqdet.model.detector import predict_batch
from exported import CONFIG, masked, spread
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from refusals import refused
from small_model import ROOT, build, small_mask_head

pytestmark = pytest.mark.xdist_group('export')  # one process records

KINDS = ('local', 'global', 'levels')
SHAPES = [(96, 96), (64, 160), (192, 128)]


def session_of(recorded, **options):
    return export.open_file(export.join_parts(recorded, steps=1, **options).SerializeToString())


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_the_recorded_form_is_the_mask_head(kind):
    """Boxes of all sizes, so that RoIAlign takes every level, some outside the image."""
    head = build(mask_head=small_mask_head(kind)).eval().roi_head.mask_head[-1]
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 64, 64 >> level, 96 >> level, generator=generator) for level in range(4)]
    corner = torch.rand(2, 20, 2, generator=generator) * 300 - 50
    box = torch.cat([corner, corner + 2 ** (4 + 6 * torch.rand(2, 20, 1, generator=generator))], -1)
    content, labels = torch.randn(2, 20, 64, generator=generator), torch.arange(40).reshape(2, 20) % 10
    found = Masks(head)(features, content, box, labels)
    for image in range(2):
        expected = probabilities(head, [level[image:image + 1] for level in features], content[image],
                                 box[image], labels[image])
        torch.testing.assert_close(found[image], expected, rtol=1e-4, atol=1e-5)
        assert expected.std() > 0.01
    if kind == 'local':
        rois = torch.cat([torch.zeros(40, 1), box.flatten(0, 1)], -1)
        assert set(head.mask_roi_extractor.map_roi_levels(rois, 4).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('scale', [1.0, 0.6])
@torch.no_grad()
def test_pasted_masks_are_those_of_the_detector(kind, scale):
    """Images with padding, and images that were resized."""
    model = build(mask_head=small_mask_head(kind)).eval()
    spread(model)
    image, = export.random_images([(70, 90)])
    inputs, samples = prepare(model, [image])
    shape = tuple(round(side / scale) for side in image.shape[:2])
    samples[0].set_metainfo(dict(ori_shape=shape, scale_factor=(90 / shape[1], 70 / shape[0])))
    expected = predict_batch(model, inputs, samples)[0].pred_instances
    (boxes, _, _, maps), = export.predict(model, [image], steps=model.roi_head.prediction.steps, masks=True)
    boxes = boxes / np.tile(samples[0].scale_factor, 2)
    np.testing.assert_allclose(boxes, expected.bboxes, rtol=1e-4, atol=1e-3)
    found = export.paste(export.kind_of(model.roi_head.mask_head[-1]), maps, boxes, padded=(96, 96),
                         size=(70, 90), shape=shape, threshold=0.5)
    assert found.shape == expected.masks.shape and 0.05 < found.mean() < 0.95
    assert (found != expected.masks.numpy()).mean() < 1e-3  # pixels at the threshold


@pytest.fixture(scope='module')
def example():
    spec = importlib.util.spec_from_file_location('example', ROOT / 'demo' / 'onnx_detect.py')
    module = importlib.util.module_from_spec(spec)
    pytest.importorskip('onnxruntime')
    spec.loader.exec_module(module)
    return module


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2 ** 20 - 1), st.sampled_from([(4, 5), (5, 4), (20, 1), (1, 20)]))
def test_run_lengths_are_those_of_coco(example, bits, shape):
    from pycocotools import mask as coco
    mask = np.array([bits >> place & 1 for place in range(20)], dtype=bool).reshape(shape)
    found = json.loads(json.dumps(example.run_lengths(mask)))
    np.testing.assert_array_equal(coco.decode(coco.frPyObjects(found, *shape)), mask)


def test_the_example_pastes_as_the_package(example):
    generator = np.random.default_rng(0)
    maps, shape = generator.random((3, 28, 28), dtype=np.float32), (50, 60)
    boxes = np.array([[5.3, 6.1, 30.2, 44.4], [-9, -9, 20, 20], [50, 40, 90, 70]], dtype=np.float32)
    view = dict(padded=(64, 64), size=(40, 48), shape=shape, threshold=0.5)
    expected = export.paste('boxes', maps, boxes, **view)
    for one, box, mask in zip(maps, boxes, expected):
        np.testing.assert_array_equal(example.in_box(one, box, *shape) > 0.5, mask)
    expected = export.paste('image', maps, boxes, **view)
    found = [example.in_image(one, (64, 64), (40, 48), *shape) > 0.5 for one in maps]
    assert (np.array(found) != expected).mean() < 1e-3


def test_another_mask_head_is_refused():
    model = build(mask_head=small_mask_head('local'))
    model.roi_head.mask_head[-1].mask_roi_extractor.roi_layers[0].pool_mode = 'max'
    with refused('export-unsupported', 'WarpedEfficientDynamicMaskHead', "pool_mode='avg'", '--no-masks'):
        export.split_detector(model)
    assert type(export.split_detector(model, masks=False).selection).__name__ == 'Selection'


@pytest.mark.slow
@pytest.mark.parametrize('kind, stacked', [*((kind, False) for kind in KINDS), ('local', True),
                                           ('levels', True)])
def test_file(kind, stacked):
    onnx = pytest.importorskip('onnx')
    model, recorded = masked(kind, stacked)
    session = session_of(recorded)
    onnx.checker.check_model(export.join_parts(recorded, steps=1), full_check=True)
    for count, shape in zip((1, 4, 2), SHAPES):
        images = export.random_images([shape, *[(shape[0] - 9, shape[1] - 5)] * (count - 1)])
        agreement = export.compare_batch(session, model, images, steps=1)
        assert agreement.good and agreement.masks < 2e-3, agreement
        maps = export.run_file(session, images, divisor=32, steps=1)[0][3]
        assert maps.shape == (12, 28, 28) if kind == 'local' else (12, shape[0] // 4, shape[1] // 4)
        assert 0.05 < (maps > 0.5).mean() < 0.95 and maps.std(0).max() > 0.1
    sides = {value.name: value.shape for value in session.get_outputs()}
    assert sides['masks'] == ['batch', 12, *((28, 28) if kind == 'local' else ('mask_height', 'mask_width'))]


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['local', 'levels'])
def test_single_steps_and_errors_in_a_mask_head(kind):
    model, recorded = masked(kind)
    batches = [export.random_images([(96, 128), (64, 90)])]

    def steps_of(parts):
        traced = export.TracedFile(export.join_parts(parts, steps=1, traced=True))
        return export.compare_steps(traced, model, batches, steps=1)

    assert steps_of(recorded).good and 0 < steps_of(recorded).masks < 1e-4
    selection = type(recorded.selection)()
    selection.CopyFrom(recorded.selection)
    bias = next(each for each in selection.graph.initializer if each.name.endswith('.bias'))
    values = onnx_helper().to_array(bias) + np.float32(0.5)
    bias.CopyFrom(onnx_helper().from_array(values, bias.name))
    wrong = steps_of(recorded._replace(selection=selection))
    assert wrong.masks > 1e-3 and not wrong.good


def onnx_helper():
    from onnx import numpy_helper
    return numpy_helper


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['local', 'levels'])
def test_the_example_gives_the_masks_of_the_detector(example, kind, tmp_path, monkeypatch, capsys):
    """From an image file to RLE, through resizing and padding."""
    from deqdet.analysis import read_image
    from pycocotools import mask as coco
    model, recorded = masked(kind)
    cfg = Config.fromstring(CONFIG, '.py')
    metadata = export.describe(model, cfg, classes=[str(digit) for digit in range(10)], steps=1)
    joined = export.join_parts(recorded, steps=1, metadata=metadata)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'small.onnx').write_bytes(joined.SerializeToString())
    picture, = export.random_images([(90, 200)])
    cv2.imwrite('a.png', cv2.GaussianBlur(picture, (9, 9), 3))
    monkeypatch.setattr('sys.argv', ['onnx_detect.py', 'small.onnx', 'a.png', '--json', 'found.json', '--out',
                                     'drawn', '--score', '0', '--threads', '1'])
    example.main()
    found, = json.load(open('found.json'))
    _, data = read_image(cfg, 'a.png')
    with torch.no_grad():
        expected = model.test_step(data, settings=model.roi_head.prediction_with(refinement_steps=1))
    expected = expected[0].pred_instances
    assert data['data_samples'][0].scale_factor != (1, 1)
    np.testing.assert_allclose(found['scores'], expected.scores, atol=1e-3)
    masks = np.array([coco.decode(coco.frPyObjects(each, 90, 200)) for each in found['masks']], dtype=bool)
    assert (masks != expected.masks.numpy()).mean() < 2e-3 and 0.05 < masks.mean() < 0.95
    drawn, before = cv2.imread('drawn/a.png'), cv2.imread('a.png')
    assert (drawn != before).any(-1)[masks.any(0)].mean() > 0.9


def test_metadata():
    cfg = Config.fromstring(CONFIG, '.py')
    for kind, word in (('local', 'boxes'), ('global', 'image')):
        model = build(mask_head=small_mask_head(kind))
        found = export.describe(model, cfg, classes='ab', steps=1)
        assert (found['masks'], found['mask_threshold']) == (word, '0.5')
        assert 'masks' not in export.describe(model, cfg, classes='ab', steps=1, masks=False)
