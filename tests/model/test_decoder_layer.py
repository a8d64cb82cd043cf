"""The decoder layer: embedding, mixing, initial weights."""

import math
from functools import partial
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from deqdet import AdaMixerHead
from deqdet.equilibrium import recomputed, unroll
from deqdet.model.decoder_layer import embed_position
from deqdet.model.mixing import AdaptiveMixing
from deqdet.model.position import PositionCodec
from deqdet.model.sampling import make_pyramid
from deqdet.model.state import DecoderState
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


def test_embedding_by_hand():
    embedding = embed_position(torch.tensor([500.0, 2000.0, 3.0, -1.0]), 16)
    expected = []
    for value in (0.5, 2.0, 3.0, -1.0):
        for k in range(4):
            angle = value / 10000 ** (2 * (k // 2) / 4)
            expected.append(math.sin(angle) if k % 2 == 0 else math.cos(angle))
    torch.testing.assert_close(embedding, torch.tensor(expected))


def test_mixing_equals_the_definition():
    """Per query and group: first M (channels), then S (points), from one generated row."""
    torch.manual_seed(0)
    mixing = AdaptiveMixing(content_dim=16, feat_channels=8, groups=2, in_points=3, out_points=5)
    for parameter in mixing.parameters():
        nn.init.normal_(parameter)
    sampled, content = torch.randn(1, 2, 2, 3, 4), torch.randn(1, 2, 16)
    rows = F.linear(content, mixing.parameter_generator[0].weight, mixing.parameter_generator[0].bias)
    expected = []
    for q in range(2):
        flat = []
        for g, row in enumerate(rows[0, q].chunk(2)):
            channel, spatial = row[:16].view(4, 4), row[16:].view(5, 3)
            x = sampled[0, q, g] @ channel
            x = ((x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()).relu()
            x = spatial @ x
            x = ((x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()).relu()
            flat.append(x.flatten())
        expected.append(mixing.out_proj(torch.cat(flat)))
    torch.testing.assert_close(mixing(sampled, content)[0], torch.stack(expected), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 4))
def test_mixing_in_blocks_is_the_same(batch, queries, block):
    """Large batches on a CPU use blocks: same values and gradients."""
    mixing = AdaptiveMixing(content_dim=16, feat_channels=8, groups=2, in_points=3, out_points=5).double()
    for parameter in mixing.parameters():
        torch.nn.init.normal_(parameter)
    sampled = torch.randn(batch, queries, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    content = torch.randn(batch, queries, 16, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(batch, queries, 16, dtype=torch.float64)
    leaves = [sampled, content, *mixing.parameters()]
    with patch('deqdet.model.mixing._BLOCK', block):
        values = [mixing(sampled, content), mixing.mix_in_blocks(sampled, content)]
        with torch.no_grad():
            values.append(mixing.mix_in_blocks(sampled, content))
    for value in values[1:]:
        torch.testing.assert_close(value, values[0])
    whole, blocks = (torch.autograd.grad(value, leaves, direction) for value in values[:2])
    for expected, gradient in zip(whole, blocks):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize('way', ['mix_whole', 'mix_in_blocks'])
def test_gradients_of_the_mixing_are_the_derivatives(way):
    torch.manual_seed(0)
    mixing = AdaptiveMixing(content_dim=8, feat_channels=4, groups=2, in_points=3, out_points=4).double()
    inputs = [torch.randn(1, 3, 2, 3, 2, dtype=torch.float64, requires_grad=True),
              torch.randn(1, 3, 8, dtype=torch.float64, requires_grad=True)]
    mix = mixing if way == 'mix_whole' else mixing.mix_in_blocks
    with patch('deqdet.model.mixing._BLOCK', 2):
        assert torch.autograd.gradcheck(
            lambda *tensors: mix(*tensors[:2]), (*inputs, *mixing.parameters()), fast_mode=True,
            check_undefined_grad=False)


def test_large_batches_are_mixed_in_blocks_on_a_cpu():
    mixing = AdaptiveMixing(content_dim=16, feat_channels=8, groups=2, in_points=3, out_points=5)
    sampled, content = torch.randn(1, 4, 2, 3, 4), torch.randn(1, 4, 16)
    with patch.object(AdaptiveMixing, 'mix_in_blocks') as blocks:
        mixing(sampled, content)
        assert not blocks.called
        with patch('deqdet.model.mixing._IN_BLOCKS_FROM', 4 * 2 * (4 * 4 + 3 * 5)):
            mixing(sampled, content)
        assert blocks.called


def small_layer(**kwargs):
    return AdaMixerHead(**{**dict(
        num_classes=3, num_heads=2, content_dim=16, feat_channels=8, feedforward_channels=32,
        in_points=4, out_points=4, n_groups=2), **kwargs})


def small_state(requires_grad=False):
    torch.manual_seed(0)
    position = torch.tensor([[[30.0, 20.0, 4.0, 0.0], [38.0, 26.0, 4.0, 1.0], [9.0, 9.0, 3.0, 0.0]]])
    state = DecoderState(position, torch.randn(1, 3, 16), PositionCodec.decode(position))
    return DecoderState(*(p if p is None else p.requires_grad_(requires_grad) for p in state))


def test_gradient_runs_through_the_content_only():
    layer, state = small_layer(), small_state(requires_grad=True)
    nn.init.normal_(layer.fc_reg.weight)
    out = layer(make_pyramid([torch.randn(1, 8, 16, 20)], (4, )), state)
    (out.content.sum() + out.box.sum() + out.logits.sum()).backward()
    assert state.content.grad.abs().sum() > 0
    assert state.position.grad is None
    assert state.box.grad is None


@pytest.mark.parametrize('graph', [lambda step: step, recomputed], ids=['plain', 'recomputed'])
@pytest.mark.parametrize('back_end', ['grid', 'rows'])
def test_gradients_of_unrolled_refinements_are_the_derivatives(graph, back_end):
    """Derivatives of the layer while it moves no box: it cuts the gradient through positions on purpose."""
    torch.manual_seed(1)
    layer, start = small_layer().double(), small_state()
    start = DecoderState(*(part if part is None else part.double() for part in start))
    with torch.no_grad():  # away from cell centres, where the derivative of sampling jumps
        layer.sampling_n_mixing.sampling_offset_generator[0].weight.normal_(std=0.1)
    of = dict(layer.named_parameters())
    parameters = [of[name] for name in (
        'iof_tau', 'attention.attn.in_proj_weight', 'sampling_n_mixing.sampling_offset_generator.0.bias',
        'sampling_n_mixing.adaptive_mixing.parameter_generator.0.weight', 'ffn.layers.0.0.weight')]
    feature = torch.randn(1, 8, 8, 10, dtype=torch.float64, requires_grad=True)

    def compute(content, feature, *parameters):
        pyramid = make_pyramid([feature], (4, ), back_end)
        answer = unroll(graph(partial(layer, pyramid)), start._replace(content=content), 2)
        return answer.content, answer.logits

    content = start.content.requires_grad_()
    assert torch.autograd.gradcheck(compute, (content, feature, *parameters), fast_mode=True,
                                    check_undefined_grad=False)


def test_overlapping_queries_attend_to_each_other():
    """Attention of head h from i to j has the bias tau_h log IoF; distant queries hardly attend."""
    layer, state = small_layer(), small_state()
    nn.init.constant_(layer.iof_tau, 4.0)
    before = layer.attend(state.content, state.position, state.box)
    changed = state.content.clone()
    changed[0, 2] += 1.0  # this query overlaps no other
    after = layer.attend(changed, state.position, state.box)
    torch.testing.assert_close(after[0, :2], before[0, :2])
    assert not torch.allclose(after[0, 2], before[0, 2])
    changed = state.content.clone()
    changed[0, 1] += 1.0  # this one overlaps the first
    assert not torch.allclose(layer.attend(changed, state.position, state.box)[0, 0], before[0, 0])


def test_new_layers_predict_the_incoming_box():
    state = small_state()
    out = small_layer()(make_pyramid([torch.randn(1, 8, 16, 20)], (4, )), state)
    torch.testing.assert_close(out.position, state.position)
    torch.testing.assert_close(out.box, state.box, rtol=1e-4, atol=1e-4)


def test_positions_stay_in_float32_under_autocast():
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = small_layer()(make_pyramid([torch.randn(1, 8, 16, 20).bfloat16()], (4, )), small_state())
    assert out.position.dtype == out.box.dtype == out.logits.dtype == torch.float32


@pytest.mark.parametrize('points, square', [(16, True), (12, False)])
def test_initial_offsets(points, square):
    layer = small_layer(in_points=points)
    generator = layer.sampling_n_mixing.sampling_offset_generator[0]
    assert not generator.weight.any()
    offsets = generator.bias.view(2, points, 3)
    assert (offsets[..., 2] == -1).all()
    if not square:
        assert offsets[..., :2].abs().max() <= 0.5 and offsets[..., :2].std() > 0.2
        return
    centres = [-0.375, -0.125, 0.125, 0.375]
    grid = [(dx, dy) for dx in centres for dy in centres]  # dx is the slow index
    for group in offsets:
        assert [tuple(point) for point in group[:, :2].tolist()] == grid
