"""A small detector with mixed scores, and images for it."""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from deqdet import app
from deqdet.analysis import read_image
from deqdet.compat.checkpoint_loading import safe_checkpoint_loading
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from small_model import DEMO_CONFIG

# The demo's detector, made small; the images are enlarged.
CONFIG = '''
_base_ = {base!r}
layer = {{**_base_.decoder_layer, 'in_points': 4, 'out_points': 8}}
model = dict(
    backbone=dict(base_channels=4, stem_channels=4),
    neck=dict(in_channels=[4, 8, 16, 32]),
    roi_head=dict(bbox_head=[layer, layer]),
    test_cfg=dict(rcnn=dict(max_per_img=20, refinement_steps=3)))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale_factor=2.0),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
'''


class Detector(NamedTuple):
    """Files of a detector."""

    config: Path
    weights: Path


@pytest.fixture(scope='session')
def detector(tmp_path_factory):
    """A config and a checkpoint: boxes move, contents settle, and scores are around 0.5."""
    folder = tmp_path_factory.mktemp('detector')
    (folder / 'small.py').write_text(CONFIG.format(base=str(DEMO_CONFIG)))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config.fromfile(str(folder / 'small.py')).model)
        model.init_weights()
    with torch.no_grad():
        for layer in model.roi_head.bbox_head:
            layer.fc_reg.weight.normal_(std=0.05)
            layer.fc_cls.weight.normal_(std=0.5)
            layer.fc_cls.bias.fill_(-1.0)
        refinement = model.roi_head.bbox_head[-1]
        for norm in (refinement.attention_norm, refinement.sampling_n_mixing.norm, refinement.ffn_norm):
            norm.weight.mul_(0.3)
            norm.bias.normal_(std=0.5)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'model.pth')
    return Detector(folder / 'small.py', folder / 'model.pth')


@pytest.fixture(scope='session')
def arguments(detector):
    """Parsed arguments of the tool."""
    return argparse.Namespace(config=str(detector.config), checkpoint=str(detector.weights), cfg_options=None,
                              trust_checkpoint=False, device='cpu')


@pytest.fixture(scope='session')
def playground(arguments):
    """The detector with six refinements."""
    with safe_checkpoint_loading():
        loaded = app.load_model(arguments)
        return app.Playground(loaded.model, loaded.cfg, loaded.classes, refinements=6)


@pytest.fixture
def image(tmp_path):
    """Writes a random image of a given size."""

    def image(name='image.png', width=64, height=48, seed=0):
        pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
        return str(tmp_path / name)

    return image


@pytest.fixture
def predicted(monkeypatch):
    """The detector's own detections above a score, with other settings."""

    def predicted(playground, path, score, **changes):
        head = playground.model.roi_head
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(head, 'prediction', head.prediction_with(**changes))
            sample, = playground.model.test_step(read_image(playground.cfg, path)[1])
        found = sample.pred_instances
        return found[found.scores > score]

    return predicted
