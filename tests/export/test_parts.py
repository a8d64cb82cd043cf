"""The parts as modules, before recording: they compute the same as mmdet's path."""

import numpy as np
import pytest
import torch
from deqdet import export
from exported import detector, lively
from mmengine.config import Config
from refusals import refused
from small_model import ROOT, build, small_config, small_sparse_config


@torch.no_grad()
def run_parts(model, images, steps):
    """Detections of the parts, put together in Python."""
    front, refinement, selection = export.split_detector(model)
    inputs = export.inputs_of(images, export.size_divisor(model))
    start = front(*(torch.from_numpy(value) for value in inputs.values()))
    if refinement is None:
        return [tuple(map(np.asarray, found)) for found in zip(*selection(*start))]
    features, state = start
    for _ in range(steps + 1):
        state = refinement(features, *state[:3])
    return [tuple(map(np.asarray, found)) for found in zip(*selection(*state[2:]))]


def agree(model, *, sizes=((96, 128), (64, 100)), steps=2):
    images = export.random_images(sizes)
    expected = export.predict(model, images, steps=steps)
    for found, true in zip(run_parts(model, images, steps), expected):
        np.testing.assert_allclose(found[1], true[1], atol=1e-4)
        np.testing.assert_allclose(np.sort(found[0], axis=0), np.sort(true[0], axis=0), atol=0.05)


def test_equilibrium():
    agree(detector())


def test_without_initialisation_layer():
    agree(lively(build(use_init_head=False)))


@pytest.mark.parametrize('preprocessor', [
    dict(bgr_to_rgb=False, mean=[103.5, 116.3, 123.7], std=[1.0, 1.0, 1.0]),
    dict(pad_value=0.7, pad_size_divisor=64),
    dict(mean=None, std=None),
], ids=str)
def test_preprocessors(preprocessor):
    config = small_config()
    config.data_preprocessor.update(preprocessor)
    model = lively(build(config))
    if preprocessor.get('mean', True) is None:  # raw pixel values would saturate the network
        with torch.no_grad():
            model.backbone.conv1.weight /= 100
    agree(model)


def test_selection_takes_what_there_is():
    config = small_config()
    config.test_cfg.rcnn.max_per_img = 500
    agree(lively(build(config)))


def test_solver_and_tolerance_of_the_config_do_not_count():
    config = small_config()
    config.test_cfg.rcnn.update(
        solver=dict(type='anderson'), tolerance=dict(position=1e9), refinement_steps=3)
    agree(lively(build(config)))


def test_other_decoders_are_refused():
    with refused('unsupported-decoder', 'DEQ_SparseRoIHead', 'DEQDetRoIHead', 'FFNDetRoIHead'):
        export.split_detector(build(small_sparse_config()))
    stock = small_sparse_config('sparse_rcnn')
    del stock.roi_head['grad_accumulation']
    with refused('unsupported-decoder', ' SparseRoIHead'):
        export.split_detector(build(stock))


def test_another_preprocessor_is_refused():
    model = build()
    model.data_preprocessor = torch.nn.Identity()
    with refused('export-unsupported', 'Identity', "model.data_preprocessor.type='DetDataPreprocessor'"):
        export.split_detector(model)


def test_images_that_are_no_multiple():
    pytest.importorskip('onnxscript')
    with refused('bad-argument', '100 x 128', 'multiples of 32', 'model.data_preprocessor.pad_size_divisor'):
        export.record_parts(detector(), shape=(100, 128))


def test_missing_packages(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with refused('missing-package', 'pip install onnxscript', "pip install 'deqdet[export]'"):
        export.record_parts(detector())


@pytest.mark.parametrize('config, expected', [
    ('deqdet/deqdet_digits.py', dict(scale=None, keep_ratio=False, scale_factor=(1.0, 1.0),
                                     interpolation='bilinear')),
    ('deqdet/deqdet_r50_2x_coco.py', dict(scale=(1333, 800), keep_ratio=True, scale_factor=None,
                                          interpolation='bilinear')),
])
def test_resize(config, expected):
    cfg = Config.fromfile(str(ROOT / 'configs' / config))
    assert export.resize_of(cfg) == expected
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [pipeline[0], dict(type='RandomFlip', prob=1.0), *pipeline[1:]]
    assert export.resize_of(cfg) is None
    for special in dict(value_range=(0, 1023)), dict(color_type='grayscale'), dict(imdecode_backend='pillow'):
        cfg.test_dataloader.dataset.pipeline = [{**pipeline[0], **special}, *pipeline[1:]]
        assert export.resize_of(cfg) is None
