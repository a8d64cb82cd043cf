"""Initial weights of the real R50 config after mmengine's initialisation (spec of AdaMixer).

Initialising twice or in the wrong order is known to cost AdaMixer about 0.3 AP.
"""

import math

import pytest
import torch
from deqdet.model.state import DecoderState
from mmengine.config import Config
from refusals import refused
from small_model import ROOT, build, small_config
from torch import nn

CONFIG = ROOT / 'configs' / 'deqdet' / 'deqdet_r50_1x_coco.py'


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """The detector that the Runner gives to the training loop."""
    from mmengine.runner import Runner
    cfg = Config.fromfile(str(CONFIG))
    cfg.model.backbone.init_cfg = None
    cfg.work_dir = str(tmp_path_factory.mktemp('init'))
    for key in list(cfg):
        if key.startswith(('train_', 'val_', 'test_')) or key in ('optim_wrapper', 'param_scheduler'):
            cfg.pop(key)
    cfg.experiment_name = 'initial-weights'
    runner = Runner.from_cfg(cfg)
    runner._init_model_weights()
    return runner.model


@pytest.fixture(scope='module', params=[0, 1])
def layer(model, request):
    return model.roi_head.bbox_head[request.param]


def assert_uniform(tensor, bound):
    """Uniform in [-bound, bound]: bounds, spread, mean."""
    tensor = tensor.detach()
    assert tensor.abs().max() <= bound
    assert tensor.abs().max() > 0.7 * bound
    if tensor.numel() >= 64:
        assert tensor.std() == pytest.approx(bound / math.sqrt(3), rel=0.25)
        assert abs(tensor.mean()) < bound * 4 / math.sqrt(3 * tensor.numel())


def xavier_bound(weight):
    return math.sqrt(6 / (weight.shape[0] + weight.shape[1]))


EXCEPTIONS = ('fc_reg', 'sampling_offset_generator.0', 'parameter_generator.0')


def test_every_linear_is_xavier_with_pytorch_bias(layer):
    checked = set()
    for name, module in layer.named_modules():
        if not isinstance(module, nn.Linear) or name.endswith(EXCEPTIONS):
            continue
        assert_uniform(module.weight, xavier_bound(module.weight))
        if name != 'fc_cls':
            assert_uniform(module.bias, 1 / math.sqrt(module.in_features))
        checked.add(name.rpartition('.')[2] if name.endswith('out_proj') else name)
    assert checked == {'out_proj', 'ffn.layers.0.0', 'ffn.layers.1', 'cls_fcs.0', 'reg_fcs.0', 'fc_cls'}


def test_attention(layer):
    attention = layer.attention.attn
    assert_uniform(attention.in_proj_weight, math.sqrt(6 / (3 * 256 + 256)))
    assert not attention.in_proj_bias.any()
    assert_uniform(attention.out_proj.bias, 1 / 16)
    tau = layer.iof_tau.detach()
    assert tau.min() >= 0 and tau.max() <= 4 and tau.std() > 0.3


def test_branches(layer):
    torch.testing.assert_close(layer.fc_cls.bias.detach(), torch.full((80, ), -math.log(99)))
    assert not layer.fc_reg.weight.any() and not layer.fc_reg.bias.any()


def test_offsets_are_a_grid(layer):
    generator = layer.sampling_n_mixing.sampling_offset_generator[0]
    assert not generator.weight.any()
    centres = (torch.arange(8) + 0.5) / 8 - 0.5
    grid = torch.stack([centres.repeat_interleave(8), centres.repeat(8), torch.full((64, ), -1.0)], -1)
    torch.testing.assert_close(generator.bias.detach().view(4, 64, 3), grid.expand(4, 64, 3))


def test_sampling_starts_at_the_scale_of_the_config():
    """The published scale is one octave below that of the box."""
    from mmdet.registry import MODELS
    corner = torch.rand(2, 3, 2) * 50
    state = DecoderState.from_boxes(torch.cat([corner, corner + 20], -1), torch.randn(2, 3, 64))
    for settings, octaves in (dict(), -1), (dict(start_scale=-2.5), -2.5):
        layer = MODELS.build(dict(
            type='AdaMixerHead', content_dim=64, feat_channels=64, n_groups=2, in_points=9, **settings))
        layer.init_weights()
        expected = torch.full((2, 3, 2, 9), math.log2(20) + octaves)
        torch.testing.assert_close(layer.sampling_points(state)[..., 2], expected)


def test_mixing_generator_weight_is_zero_and_its_bias_is_not(layer):
    generator = layer.sampling_n_mixing.adaptive_mixing.parameter_generator[0]
    assert not generator.weight.any()
    assert_uniform(generator.bias, 1 / 16)


def test_norms(layer):
    norms = [module for module in layer.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 5
    for norm in norms:
        assert (norm.weight == 1).all() and not norm.bias.any()
        assert norm.eps == 1e-5


def test_layers_are_drawn_apart(model):
    first, last = model.roi_head.bbox_head
    assert not torch.equal(first.fc_cls.weight, last.fc_cls.weight)


def test_proposals(model):
    head = model.rpn_head
    assert (head.init_proposal_bboxes.weight == torch.tensor([0.5, 0.5, 1, 1])).all()
    assert not head.init_proposal_bboxes.weight.requires_grad
    content = head.init_proposal_features.weight
    assert content.requires_grad
    assert content.mean().item() == pytest.approx(0, abs=0.03)
    assert content.std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize('count, columns, rows', [(1, 1, 1), (7, 3, 3), (40, 7, 6), (49, 7, 7)])
def test_boxes_of_a_grid(count, columns, rows):
    """Centres in the cells, row by row; each box reaches the centres of its neighbours."""
    config = small_config()
    config.rpn_head.update(num_proposals=count, start='grid')
    boxes = build(config).rpn_head.init_proposal_bboxes.weight
    assert boxes.shape == (count, 4) and not boxes.requires_grad
    for number, (x, y, w, h) in enumerate(boxes.tolist()):
        assert (x * columns, y * rows) == pytest.approx((number % columns + 0.5, number // columns + 0.5))
        assert (w, h) == pytest.approx((min(1, 2 / columns), min(1, 2 / rows)))


def test_another_start_is_refused():
    config = small_config()
    config.rpn_head.start = 'random'
    with refused('bad-setting', "start='random'", "'image' or 'grid'"):
        build(config)


def test_neck(model):
    for conv in model.neck.convs:
        weight = conv.conv.weight
        fan = (weight.shape[0] + weight.shape[1]) * 9
        assert_uniform(weight, math.sqrt(6 / fan))
        assert not conv.conv.bias.any()
    assert (model.neck.gn_out.weight == 1).all() and not model.neck.gn_out.bias.any()
    assert model.neck.gn_out.num_groups == 32 and model.neck.gn_out.eps == 1e-5


def test_a_model_that_is_only_built_has_these_weights_too():
    from mmdet.registry import MODELS
    layer = MODELS.build(dict(type='AdaMixerHead', in_points=64))
    assert not layer.fc_reg.weight.any() and layer.attention.attn.out_proj.bias.any()
    assert not layer.sampling_n_mixing.sampling_offset_generator[0].weight.any()
