"""DEQDet with other backbones and pyramids: valid ones learn, invalid ones give one error line."""

from urllib.parse import urlparse

import pytest
import torch
from mmengine.config import Config
from refusals import refused
from small_model import ROOT, batch_of, build, few_queries, losses_of, small_config, total
from torch.nn.modules.batchnorm import _BatchNorm

EXAMPLES = {path.stem: path for path in sorted((ROOT / 'configs/examples').glob('*.py'))}
R50 = ROOT / 'configs/deqdet/deqdet_r50_1x_coco.py'


def load(name):
    return Config.fromfile(str(EXAMPLES[name]))


@pytest.mark.slow
@pytest.mark.parametrize('name', EXAMPLES)
def test_example_learns_and_predicts(name):
    model = build(few_queries(load(name).model)).train()
    batch = batch_of(model)
    width = batch['inputs'].shape[-1]
    strides = [width // level.shape[-1] for level in model.extract_feat(batch['inputs'])]
    assert strides == ([16, 32] if 's16-32' in name else [4, 8, 16, 32])

    losses = losses_of(model)
    total(losses).backward()
    assert {key.partition('loss')[0] for key in losses} >= {'init_', 'iter2_'}
    without = [name for name, parameter in model.named_parameters()
               if parameter.requires_grad and parameter.grad is None]
    assert not without, 'distributed training would stop'
    gradients = [parameter.grad for parameter in model.backbone.parameters() if parameter.requires_grad]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)

    model.eval()
    with torch.no_grad():
        samples = model.predict(batch['inputs'], batch['data_samples'])
    for sample in samples:
        assert sample.pred_instances.bboxes.shape == (12, 4)
        assert torch.isfinite(sample.pred_instances.bboxes).all()


@pytest.mark.parametrize('name', EXAMPLES)
def test_nothing_but_the_model_differs_from_r50(name):
    ours, r50 = load(name).to_dict(), Config.fromfile(str(R50)).to_dict()
    decoder, expected = ours.pop('model'), r50.pop('model')
    assert ours == r50
    for part in ('rpn_head', 'train_cfg', 'test_cfg'):
        assert decoder[part] == expected[part]
    decoder['roi_head']['featmap_strides'] = expected['roi_head']['featmap_strides']
    assert decoder['roi_head'] == expected['roi_head']


@pytest.mark.parametrize('name, config', [
    ('x50-32x4d', 'cascade_rcnn/cascade-rcnn_x101-32x4d_fpn_1x_coco.py'),
    ('pvtv2-b0', 'pvt/retinanet_pvtv2-b0_fpn_1x_coco.py'),
    ('cspnext-tiny', 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py')])
def test_backbone_is_that_of_mmdet(name, config, config_of_mmdet):
    """Architecture, images and weights are those of mmdet's config for the backbone."""
    from mmdet.registry import MODELS
    ours, theirs = load(f'deqdet_{name}_1x_coco').model, config_of_mmdet(config).model
    for key in ('mean', 'std', 'bgr_to_rgb'):
        assert ours.data_preprocessor[key] == theirs.data_preprocessor[key]
    checkpoints = [model.backbone.init_cfg.checkpoint.replace('101_', '50_') for model in (ours, theirs)]
    # Different mmdet packages keep the same files on different hosts.
    assert len({urlparse(checkpoint).path or checkpoint for checkpoint in checkpoints}) == 1
    if 'open-mmlab://' in checkpoints[0]:
        from mmengine.runner.checkpoint import get_external_models
        assert checkpoints[0].partition('://')[2] in get_external_models()
        theirs.backbone.depth = 50
    assert ours.backbone.init_cfg.get('prefix') == theirs.backbone.init_cfg.get('prefix')
    models = [MODELS.build(dict(model.backbone, init_cfg=None)) for model in (ours, theirs)]
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1]
    eps = [{module.eps for module in model.modules() if isinstance(module, _BatchNorm)} for model in models]
    assert eps[0] == eps[1]


# Invalid combinations


def misfit(config):
    with refused('settings-mismatch') as caught:
        losses_of(build(config))
    return caught.value.message


def test_channels_found_and_expected():
    config = small_config()
    config.neck.in_channels = [8, 8, 16, 64]
    message = misfit(config)
    assert 'model.neck.in_channels=[8, 8, 16, 64]' in message and 'ResNet gives [4, 8, 16, 32]' in message
    assert 'set model.neck.in_channels=[4, 8, 16, 32]' in message and 'model.backbone.out_indices' in message


@pytest.mark.parametrize('channels, outs', [([16, 32], 2), ([4, 8, 16, 32, 32], 5)])
def test_levels_of_the_backbone(channels, outs):
    config = small_config()
    config.neck.update(in_channels=channels, num_outs=outs)
    assert f'in_channels={channels} but the backbone ResNet gives [4, 8, 16, 32]' in misfit(config)


def test_a_neck_of_mmdet_is_explained_too():
    config = small_config()
    config.neck = dict(type='FPN', in_channels=[16, 32], out_channels=64, num_outs=4)
    assert 'in_channels=[16, 32] but the backbone ResNet gives [4, 8, 16, 32]' in misfit(config)


def test_an_error_within_a_neck_that_fits_is_not_explained_away(monkeypatch):
    def fail(self, inputs):
        raise RuntimeError('out of memory')

    model = build()
    monkeypatch.setattr(type(model.neck), 'forward', fail)
    with pytest.raises(RuntimeError, match='out of memory'):
        losses_of(model)


def test_fewer_outputs_than_levels():
    config = small_config()
    config.neck.num_outs = 2
    message = misfit(config)
    assert 'num_outs=2' in message and 'in_channels=[4, 8, 16, 32]' in message
    assert 'model.neck.num_outs' in message


def test_more_outputs_than_strides():
    """Two levels from the backbone, but the number of outputs not set."""
    config = small_config(featmap_strides=[16, 32])
    config.backbone.out_indices = (2, 3)
    config.neck.in_channels = [16, 32]
    message = misfit(config)
    assert 'featmap_strides=(16, 32) has 2 levels but the neck gives 4' in message
    assert 'model.roi_head.featmap_strides' in message and 'model.neck.num_outs' in message


def test_more_outputs_than_levels_are_smaller_levels():
    config = small_config(featmap_strides=[16, 32, 64])
    config.backbone.out_indices = (2, 3)
    config.neck.update(in_channels=(16, 32), num_outs=3)
    total(losses_of(build(config))).backward()
