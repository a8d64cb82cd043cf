"""The protocol of decoder layers: a user's layer that follows it works, another one is refused."""

import pytest
import torch
from deqdet import AdaMixerHead
from deqdet.model.heads import precision
from deqdet.model.layer_protocol import DecoderLayer
from deqdet.model.position import PositionCodec
from deqdet.model.state import DecoderState
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from refusals import refused
from small_model import batch_of, build, losses_of, small_config, total
from torch import nn


class PlainLayer(BaseModule, DecoderLayer):
    """One linear layer each; the features enter by their mean."""

    def __init__(self, num_classes=10, content_dim=64, feat_channels=64):
        super().__init__()
        self.num_classes, self.content_dim, self.feat_channels = num_classes, content_dim, feat_channels
        losses = AdaMixerHead(num_classes=num_classes, content_dim=8, feat_channels=4)
        self.loss_cls, self.loss_bbox, self.loss_iou = losses.loss_cls, losses.loss_bbox, losses.loss_iou
        self.look, self.box = nn.Linear(feat_channels, content_dim), nn.Linear(content_dim, 4)
        self.classes = nn.Linear(content_dim, num_classes)

    def forward(self, pyramid, state, *, classify=True):
        points = torch.cat([state.position[..., :3]], dim=-1).detach()[:, :, None, None]
        seen = self.look(pyramid.sample(points).flatten(2))
        content = torch.tanh(0.5 * state.content + seen)
        position = PositionCodec.move(state.position.detach(), 0.1 * self.box(content))
        return DecoderState.from_position(position, content)._replace(
            logits=self.classify(content) if classify else None)

    def classify(self, content):
        return self.classes(content)


@pytest.fixture
def config():
    MODELS.register_module(module=PlainLayer)
    config = small_config()
    config.roi_head.bbox_head = [dict(type='PlainLayer')]
    yield config
    MODELS.module_dict.pop('PlainLayer')


def test_a_layer_of_another_kind_learns_and_predicts(config, monkeypatch):
    """The protocol's defaults: its graph is recomputed, no weight is copied to half precision."""
    monkeypatch.setattr(precision, 'supported_dtype', lambda dtype, device: getattr(torch, dtype))
    config.test_cfg.rcnn.solve_dtype = 'bfloat16'
    model = build(config)
    losses = losses_of(model)
    total(losses).backward()
    assert {key.partition('loss')[0] for key in losses if 'loss_cls' in key} == {
        'init_', 'init^1_', 'init^2_', 'iter1_', 'iter3_'}
    assert all(p.grad is not None for p in model.roi_head.parameters() if p.requires_grad)
    batch = batch_of(model.eval())
    with torch.no_grad():
        found = model.predict(batch['inputs'], batch['data_samples'])
    assert all(len(sample.pred_instances) == 12 for sample in found)


def test_a_layer_that_lacks_something_is_refused(config):
    config.roi_head.bbox_head = [dict(type='DIIHead', num_classes=10)]
    with refused('bad-setting', 'bbox_head.type=DIIHead', 'is_lean', 'AdaMixerHead'):
        build(config)


def test_heavy_weights_are_those_of_the_mixing():
    layer = build().roi_head.bbox_head[-1]
    heavy, everything = layer.heavy_weights(), dict(layer.named_parameters())
    assert heavy and all(everything[name] is weight for name, weight in heavy.items())
    assert set(heavy) == {name for name in everything if 'adaptive_mixing' in name}
