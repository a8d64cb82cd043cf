"""Sparse R-CNN as a deep equilibrium: tests beyond the reference case."""

import copy

import pytest
import torch
from deqdet.model.state import BoxState, position_residual
from golden import relative_error
from refusals import refused
from small_model import batch_of, build, losses_of, small_sparse_config, total


def sparse(**roi_head):
    """The small detector with moving boxes, as after some training."""
    model = build(small_sparse_config(**roi_head))
    for head in model.roi_head.bbox_head[:2]:
        torch.nn.init.normal_(head.fc_reg.weight, std=0.01)
    return model.train()


def gradients(model, factor=1.0, **kwargs):
    model.zero_grad()
    (factor * total(losses_of(model, **kwargs))).backward()
    return {name: p.grad / factor for name, p in model.named_parameters()}  # all have a gradient


@pytest.fixture
def stages(monkeypatch):
    """Records the applied heads in order, and whether with gradient."""
    from deqdet import DEQ_SparseRoIHead
    called, original = [], DEQ_SparseRoIHead._bbox_forward

    def record(self, stage, *args):
        called.append((stage, torch.is_grad_enabled()))
        return original(self, stage, *args)

    monkeypatch.setattr(DEQ_SparseRoIHead, '_bbox_forward', record)
    return called


def test_stages_of_training(stages):
    losses = losses_of(sparse())
    # Three in a row, then a path of num_stages, then two unrolled steps from each of 1, 3 and 6.
    assert stages == [(0, True)] + [(1, True)] * 2 + [(1, False)] * 6 + [(1, True)] * 6
    names = ['init^0', 'init^1', 'init^2', 'iter1', 'iter3', 'iter6']
    kinds = ['loss_cls', 'loss_bbox', 'loss_iou', 'pos_acc']
    assert set(losses) == {f'{name}.{kind}' for name in names for kind in kinds}


@pytest.mark.parametrize('num_stages', [None, 1, 9])
def test_stages_of_prediction(stages, num_stages):
    config = small_sparse_config()
    if num_stages:
        config.test_cfg.rcnn.num_stages = num_stages
    model = build(config).eval()
    batch = batch_of(model)
    with torch.no_grad():
        results = model.predict(batch['inputs'], batch['data_samples'])
    assert [stage for stage, _ in stages] == [0] + [1] * ((num_stages or 6) - 1)
    assert len(results[0].pred_instances) == 20


@pytest.mark.parametrize('solver', ['iterate', 'anderson'])
def test_each_image_stops_by_itself(stages, solver):
    """With a wide limit the first image stops and is not computed further; the other continues."""
    config = small_sparse_config()
    config.test_cfg.rcnn.update(num_stages=12, solver=dict(type=solver))
    model = build(config).eval()
    torch.nn.init.normal_(model.roi_head.bbox_head[1].fc_reg.weight, std=0.01)
    batch = batch_of(model)
    with torch.no_grad():
        features = model.extract_feat(batch['inputs'])
        proposals = model.rpn_head.predict(features, batch['data_samples'])
        start, step = model.roi_head.fixed_point_problem(features, proposals, batch['data_samples'])
        lengths = position_residual(start, step(start)).absolute
    assert lengths[0] != lengths[1]
    sooner = int(lengths.argmin())
    head = model.roi_head
    head.prediction = head.prediction_with(tolerance=dict(position=lengths.mean().item()))
    found = predict(model, batch)

    head.prediction = head.prediction_with(tolerance=None, num_stages=3)  # stage 0, one step, one more
    torch.testing.assert_close(found[sooner], predict(model, batch)[sooner], atol=1e-3, rtol=1e-4)
    assert not torch.allclose(found[1 - sooner], predict(model, batch)[1 - sooner], atol=1e-3)


def predict(model, batch):
    """Boxes of each image."""
    with torch.no_grad():
        results = model.predict(batch['inputs'], batch['data_samples'], rescale=False)
    return [sample.pred_instances.bboxes for sample in results]


def test_training_with_anderson(stages):
    model = sparse(solver=dict(type='anderson', memory=2))
    losses = losses_of(model)
    assert stages == [(0, True)] + [(1, True)] * 2 + [(1, False)] * 6 + [(1, True)] * 6
    total(losses).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_latent_variable_goes_there_and_back():
    box = torch.tensor([[[10., 20., 50., 40.], [0., 0., 8., 80.]]])
    state = BoxState(box=box, content=torch.randn(1, 2, 8))
    back = state.unpack(state.pack())
    torch.testing.assert_close(back.box, box)
    torch.testing.assert_close(back.content, state.content)


@pytest.mark.parametrize('given, supervised', [
    (None, (1, 3, 6, 9, 12, 20)), ([3, 1, 3, 0, 21], (1, 3)), ((20, ), (20, ))])
def test_supervision_positions(given, supervised):
    head = build(small_sparse_config(num_stages=20, stage_loss_weights=None,
                                     supervision_position=given)).roi_head
    assert tuple(head.recipe.positions) == supervised


def test_weights_of_stages():
    plain = losses_of(sparse())
    weighted = losses_of(sparse(stage_loss_weights=[2, 3, 5, 7, 7, 7]))
    factors = {'init^0': 2, 'init^1': 3, 'init^2': 5, 'iter1': 3, 'iter3': 3, 'iter6': 3}
    for key, value in plain.items():
        factor = factors[key.split('.')[0]] if 'loss' in key else 1
        assert float(weighted[key].detach()) == pytest.approx(factor * float(value.detach())), key


def test_noise_by_hand():
    head = sparse(perturb_content_prob=1, perturb_position_prob=1, perturb_position_intensity=25).roi_head
    box = torch.rand(2, 3, 4) * 60
    state = BoxState(box=box, content=torch.randn(2, 3, 8))
    torch.manual_seed(5)
    noisy = head.perturbation(state)

    torch.manual_seed(5)
    torch.rand(1)
    x1, y1, x2, y2 = torch.stack([image + 25 * torch.randn(3, 4) for image in box]).unbind(-1)
    torch.rand(1)
    noise = torch.randn(2, 3, 8) * state.content.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(noisy.box, torch.stack(
        [torch.min(x1, x2), torch.min(y1, y2), torch.max(x1, x2), torch.max(y1, y2)], -1))
    torch.testing.assert_close(noisy.content, 0.9 * state.content + 0.1 * noise)
    assert (noisy.box[..., :2] <= noisy.box[..., 2:]).all() and ((x1 > x2) | (y1 > y2)).any()


def test_noise_is_only_on_the_path():
    calm, noisy = (losses_of(sparse(perturb_content_prob=p, perturb_position_prob=p)) for p in (0, 1))
    changed = {key for key in calm if 'loss' in key and not torch.equal(calm[key], noisy[key])}
    assert {key.split('.')[0] for key in changed} == {'iter1', 'iter3', 'iter6'}


def test_the_lean_graph_has_the_gradients_of_the_plain_one():
    lean, plain = sparse(), sparse(grad_accumulation=False)
    expected = gradients(plain)
    for factor in (1.0, 1024.0):
        for name, gradient in gradients(lean, factor).items():
            assert relative_error(gradient, expected[name]) < 1e-5, name


def test_every_parameter_has_a_gradient():
    found = gradients(sparse())
    # With such small images all RoIs are on one level of the neck.
    idle = {name.split('.')[0] for name, gradient in found.items() if gradient.abs().sum() == 0}
    assert idle <= {'backbone', 'neck'}


def test_boxes_carry_no_gradient_from_stage_to_stage():
    model = sparse()
    batch = batch_of(model)
    metas = [sample.metainfo for sample in batch['data_samples']]
    features = tuple(level.detach() for level in model.extract_feat(batch['inputs']))
    proposals = model.rpn_head.predict(features, batch['data_samples'])
    for stage, carried in ((0, True), (1, False)):
        start = BoxState(*(part.detach().requires_grad_() for part in
                           model.roi_head.initial_state(proposals)[:2]))
        end = model.roi_head.apply_stage(stage, features, metas, start)
        box, content = torch.autograd.grad(
            end.box.sum() + end.content.square().sum(), start[:2], allow_unused=True)
        assert (box is not None) == carried
        assert content.abs().sum() > 0


def test_stages_share_one_set_of_weights():
    model = sparse()
    head, state = model.roi_head, model.state_dict()
    shared = [key for key in state if key.startswith('roi_head.bbox_head.1.')]
    assert len(shared) == len(head.bbox_head[1].state_dict()) > 20
    for key in shared:
        for stage in range(2, 6):
            other = state[key.replace('bbox_head.1.', f'bbox_head.{stage}.')]
            assert other.data_ptr() == state[key].data_ptr()
        assert state[key.replace('bbox_head.1.', 'bbox_head.0.')].data_ptr() != state[key].data_ptr()
    names = [name for name, _ in model.named_parameters() if 'bbox_head' in name]
    assert {name.split('.')[2] for name in names} == {'0', '1'}


def test_copied_and_reloaded_models_share_and_predict_the_same(tmp_path):
    model = sparse().eval()
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    loaded = build(small_sparse_config()).eval()
    loaded.load_state_dict(torch.load(tmp_path / 'model.pth', weights_only=True), strict=True)
    batch = batch_of(model)
    with torch.no_grad():
        expected = model(batch['inputs'], batch['data_samples'], mode='tensor')[-1]
        for other in (loaded, copy.deepcopy(model)):
            assert other.roi_head.bbox_head[2] is other.roi_head.bbox_head[1]
            assert torch.equal(other(batch['inputs'], batch['data_samples'], mode='tensor')[-1].box,
                               expected.box)


def test_a_batch_without_objects():
    model = sparse()
    losses = losses_of(model, objects=((), ()))
    for key, value in losses.items():
        if 'loss' in key:
            assert (0 < float(value.detach()) < 100) if 'cls' in key else float(value.detach()) == 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model, objects=((), ())).values())


@pytest.mark.parametrize('dtype', [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_mixed_precision(dtype):
    model = sparse()
    full = losses_of(model)
    with torch.autocast('cpu', dtype=dtype):
        half = losses_of(model)
    assert total(half).dtype == torch.float32
    assert float(total(half).detach()) == pytest.approx(float(total(full).detach()), rel=0.2)
    total(half).backward()


@pytest.mark.slow
def test_loss_falls_on_a_batch():
    model = sparse()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    values = []
    for step in range(8):
        loss = total(losses_of(model, seed=step))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize('roi_head, code, words', [
    (dict(num_stages=2), 'bad-setting', ['num_stages=2', '3']),
    (dict(num_stages=6.5), 'bad-setting', ['num_stages=6.5', '3', 'whole']),
    (dict(perturb_position_prob=1.5), 'bad-setting', ['perturb_position_prob=1.5', '0 to 1']),
    (dict(stage_loss_weights=[1, 1]), 'settings-mismatch', ['stage_loss_weights', '2', 'num_stages=6']),
    (dict(supervision_position=3), 'bad-setting', ['supervision_position=3', 'None', 'list']),
    (dict(supervision_position=[0, 7]), 'settings-mismatch',
     ['supervision_position', '(0, 7)', 'num_stages=6']),
    (dict(mask_head=dict(type='DynamicMaskHead')), 'bad-setting', ['DynamicMaskHead', 'DeCoupleHead']),
    (dict(solver=dict(type='newton')), 'unknown-type', ['roi_head.solver', "'newton'"]),
    (dict(bbox_roi_extractor=None), 'bad-config', ['bbox_roi_extractor']),
    (dict(bbox_head=None), 'bad-setting', ['bbox_head', '1 or 2 or 6', '0']),
    (dict(bbox_head=[dict(type='DIIHead')] * 4), 'bad-setting', ['bbox_head', '1 or 2 or 6', '4']),
    (dict(bbox_head=[dict(type='DIIHead')] * 5 + [dict(type='DIIHead', num_heads=4)]),
     'settings-mismatch', ['bbox_head']),
    (dict(bbox_head=dict(type='DIIHead', in_channels=32)), 'settings-mismatch',
     ['proposal_feature_channel=64', 'bbox_head in_channels=32']),
])
def test_bad_arguments_are_named_at_once(roi_head, code, words):
    config = small_sparse_config()
    for key, value in roi_head.items():
        config.roi_head[key] = value
    with refused(code, *words):
        build(config)


@pytest.mark.parametrize('test_cfg, code, words', [
    (dict(num_stages=0), 'bad-setting', ['test_cfg.rcnn.num_stages=0', '1']),
    (dict(tolerance=dict(box=1)), 'unknown-setting', ['test_cfg.rcnn.tolerance', "'box'"]),
    (dict(max_per_img=0), 'bad-setting', ['test_cfg.rcnn.max_per_img=0', '1'])])
def test_bad_test_cfg(test_cfg, code, words):
    config = small_sparse_config()
    config.test_cfg.rcnn.update(test_cfg)
    with refused(code, *words):
        build(config)


def test_heads_of_different_classes_or_softmax():
    config = small_sparse_config()
    first = config.roi_head.bbox_head
    config.roi_head.bbox_head = [first, {**first, 'num_classes': 3}]
    with refused('settings-mismatch', 'num_classes', '[10, 3]'):
        build(config)
    config = small_sparse_config()
    config.roi_head.bbox_head.loss_cls = dict(type='CrossEntropyLoss')
    with refused('bad-setting', 'use_sigmoid=True'):
        build(config)
