"""The heads: supervised states, solving, gradients, selection."""

import pytest
import torch
from golden import relative_error
from refusals import refused
from small_model import batch_of, build, losses_of, small_config, total


def names(losses):
    return {key.rpartition('loss')[0] for key in losses if key.endswith('loss_cls')}


def detections(model):
    model.eval()
    batch = batch_of(model)
    with torch.no_grad():
        return model.predict(batch['inputs'], batch['data_samples'])


def test_supervised_states():
    losses = losses_of(build())
    assert names(losses) == {'init_', 'init^1_', 'init^2_', 'iter1_', 'iter3_'}


def pairs_of_states(model, **options):
    """The pairs that each supervised state gets its losses from, and those of a matching of each state."""
    used, own, criterion = [], [], model.roi_head.criterion
    losses = criterion.losses

    def recording(layer, state, targets, pairs, features):
        used.append(pairs)
        own.append(criterion.match(state, targets, ''))
        return losses(layer, state, targets, pairs, features)

    criterion.losses = recording
    found = losses_of(model, **options)
    del criterion.losses
    return found, used, own


def same(first, second):
    return torch.equal(first.query, second.query) and torch.equal(first.target, second.target)


@pytest.mark.parametrize('settings', [{}, dict(use_init_head=False), dict(positions_per_batch=2)], ids=str)
def test_matching_at_the_start_keeps_the_pairs_of_the_first_state(settings):
    """Queries keep their objects in all supervised states, however much the states differ."""
    torch.manual_seed(0)
    model = build(match_at='start', perturb_position_prob=1, perturb_position_intensity=60, **settings)
    losses, used, own = pairs_of_states(model, objects=((2, 7, 1), (4, 3)))
    assert len(used) == len(names(losses)) and same(used[0], own[0])
    assert all(same(used[0], pairs) for pairs in used)
    assert not all(same(used[0], pairs) for pairs in own), 'each matching of its own would give other pairs'
    total(losses).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)

    model.roi_head.match_at = 'each'
    _, used, own = pairs_of_states(model, objects=((2, 7, 1), (4, 3)))
    assert all(map(same, used, own))


def test_positions_off_the_path_are_passed_over_and_named_twice_count_once():
    losses = losses_of(build(supervision_position=[0, 4, 2, 2, 9], extra_supervisions_on_init_head=0))
    assert names(losses) == {'init_', 'iter2_', 'iter4_'}


def test_default_positions_include_the_start_which_is_no_step():
    config = small_config()
    del config.roi_head['supervision_position']
    assert names(losses_of(build(config))) == {
        'init_', 'init^1_', 'init^2_', 'iter1_', 'iter2_', 'iter3_', 'iter4_'}


@pytest.mark.parametrize('settings', [{}, dict(positions_per_batch=3)], ids=str)
def test_the_mean_over_drawn_positions_is_the_loss_of_all(settings):
    """If each pair of three positions is drawn once, the mean gradient is that of the recipe."""
    off = dict(perturb_content_prob=0, perturb_position_prob=0, supervision_position=[1, 2, 4], **settings)
    model = build(**off).double()
    everything = losses_of(model)
    total(everything).backward()
    expected = [parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad]
    model.zero_grad()

    model.roi_head.positions_per_iteration = 2
    found, seed = set(), 0
    while len(found) < 3:
        losses = losses_of(model, seed=seed)
        drawn = tuple(sorted(names(losses) - {'init_', 'init^1_', 'init^2_'}))
        seed += 1
        if drawn in found:
            continue
        found.add(drawn)
        (total(losses) / 3).backward()
        for name in drawn:
            key = f'{name}loss_cls'
            torch.testing.assert_close(losses[key], 1.5 * everything[key])
            torch.testing.assert_close(losses[f'{name}pos_acc'], everything[f'{name}pos_acc'])
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    for gradient, one in zip(gradients, expected):
        torch.testing.assert_close(gradient, one, rtol=1e-9, atol=1e-12)


def test_the_path_ends_at_the_last_drawn_position():
    model = build(supervision_position=[1, 4], positions_per_iteration=1, grad_accumulation=False,
                  extra_supervisions_on_init_head=0)
    calls, last = [], {'iter1_': 1, 'iter4_': 4}
    model.roi_head.bbox_head[-1].register_forward_hook(lambda *args: calls.append(1))
    seen = set()
    for seed in range(12):
        calls.clear()
        (drawn, ) = names(losses_of(model, seed=seed)) - {'init_'}
        assert len(calls) == last[drawn] + 2
        seen.add(drawn)
    assert seen == set(last)


def test_no_position_within_the_path():
    with refused('settings-mismatch', 'supervision_position', '(9,)', 'refinement_steps=4'):
        losses_of(build(supervision_position=[9]))


def test_every_parameter_gets_a_gradient_also_without_objects():
    for objects in (((1, ), ()), ((), ())):
        model = build()
        total(losses_of(model, objects=objects)).backward()
        unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not unused


def test_loss_runs_no_backward_pass():
    model = build()
    losses_of(model)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_is_differentiated_without_gradient():
    with torch.no_grad():
        assert not total(losses_of(build())).requires_grad


@pytest.mark.parametrize('flag', [True, False])
def test_grad_accumulation_changes_nothing(flag):
    model = build(grad_accumulation=flag)
    reference = build()
    reference.load_state_dict(model.state_dict())
    expected, actual = losses_of(reference), losses_of(model)
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


@pytest.mark.parametrize('rag', [1, 2, 3])
def test_rag_is_the_number_of_refinements_with_gradient(rag):
    """The supervised state is the solved one after `rag` more refinements, without perturbation."""
    off = dict(perturb_content_prob=0, perturb_position_prob=0, extra_supervisions_on_init_head=0)
    model = build(rag=rag, refinement_steps=1, supervision_position=[1], **off)
    same = build(rag=1, refinement_steps=rag, supervision_position=[rag], **off)
    same.load_state_dict(model.state_dict())
    a, b = losses_of(model)['iter1_loss_cls'], losses_of(same)[f'iter{rag}_loss_cls']
    torch.testing.assert_close(a, b)


def test_perturbation_only_in_training():
    model = build(perturb_content_prob=1.0, perturb_position_prob=1.0)
    first, second = detections(model), detections(model)
    assert torch.equal(first[0].pred_instances.bboxes, second[0].pred_instances.bboxes)
    model.train()
    assert losses_of(model, seed=1)['iter3_loss_cls'] != losses_of(model, seed=2)['iter3_loss_cls']


def test_prediction_takes_one_refinement_more():
    calls = []
    model = build(refinement_steps=4)
    model.roi_head.bbox_head[1].register_forward_hook(lambda *args: calls.append(1))
    detections(model)
    assert len(calls) == 5
    model.roi_head.prediction = model.roi_head.prediction_with(refinement_steps=None)  # unset
    calls.clear()
    detections(model)
    assert len(calls) == 5
    model.roi_head.prediction = model.roi_head.prediction_with(refinement_steps=0)
    calls.clear()
    detections(model)
    assert len(calls) == 1


def test_without_initialisation_layer():
    model = build(use_init_head=False)
    assert len(model.roi_head.bbox_head) == 1
    losses = losses_of(model)
    assert names(losses) == {'iter1_', 'iter3_'}
    total(losses).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert len(detections(model)[0].pred_instances) == 12


@pytest.mark.parametrize('kind', ['DEQDetRoIHead', 'FFNDetRoIHead'])
def test_frozen_stages_have_no_gradient_and_stay_in_eval_mode(kind):
    config = small_config(frozen_stages=1)
    if kind == 'FFNDetRoIHead':
        keep = {key: config.roi_head[key] for key in ('featmap_strides', 'bbox_head', 'frozen_stages')}
        config.roi_head = dict(type=kind, num_stages=2, **keep)
    model = build(config).train()
    first, last = model.roi_head.bbox_head
    assert not first.training and last.training
    total(losses_of(model)).backward()
    assert all(p.grad is None for p in first.parameters())
    assert all(p.grad is not None for p in last.parameters())
    assert model.neck.convs[0].conv.weight.grad.any()
    assert not model.eval().training and not last.training


def test_frozen_proposals():
    config = small_config()
    config.rpn_head.frozen = True
    model = build(config)
    assert not any(parameter.requires_grad for parameter in model.rpn_head.parameters())
    total(losses_of(model)).backward()
    assert not any(p.requires_grad for p in build().rpn_head.init_proposal_bboxes.parameters())


def test_mode_is_respected_everywhere():
    model = build()
    assert all(module.training for module in model.train().modules())
    assert not any(module.training for module in model.eval().modules())


def test_stacked_head():
    config = small_config()
    config.roi_head = dict(
        type='FFNDetRoIHead', num_stages=3, bbox_head=config.roi_head.bbox_head[0])
    model = build(config)
    losses = losses_of(model)
    assert names(losses) == {'stage_0', 'stage_1', 'stage_2'}
    total(losses).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert len(model.roi_head.bbox_head) == 3


def test_selection():
    """Top scores over queries x classes, sorted, not clipped, in pixels of the original image."""
    head = build().roi_head
    logits = torch.tensor([[0.0, 3.0], [2.0, -9.0]])
    box = torch.tensor([[-10.0, 0, 50, 60], [1.0, 2, 3, 4]])
    meta = dict(scale_factor=(0.5, 2.0))
    found = head.select(logits, box, meta, rescale=True, settings=head.prediction_with(max_per_img=3))
    assert found.labels.tolist() == [1, 0, 0]
    torch.testing.assert_close(found.scores, torch.tensor([3.0, 2.0, 0.0]).sigmoid())
    torch.testing.assert_close(found.bboxes[0], torch.tensor([-20.0, 0, 100, 30]))
    torch.testing.assert_close(found.bboxes[1], torch.tensor([2.0, 1, 6, 2]))
    every = head.prediction_with(max_per_img=100)
    assert len(head.select(logits, box, meta, rescale=False, settings=every)) == 4


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_half_precision_backbone_is_a_switch(dtype):
    model = build().eval()
    batch = batch_of(model)
    with torch.no_grad():
        full = model.extract_feat(batch['inputs'])
        model.inference_dtype = dtype
        half = model.extract_feat(batch['inputs'])
        assert all(level.dtype == torch.float32 for level in half)
        assert not torch.equal(full[0], half[0])
        assert relative_error(half[0], full[0]) < 0.05
        model.train()
        assert torch.equal(model.extract_feat(batch['inputs'])[0],
                           model.extract_feat(batch['inputs'])[0])


BAD_HEADS = [
    (dict(refinement_steps=-1), 'bad-setting', ['refinement_steps=-1', '0']),
    (dict(refinement_steps=2.5), 'bad-setting', ['refinement_steps=2.5', '0', 'whole']),
    (dict(rag=0), 'bad-setting', ['rag=0', '1']),
    (dict(perturb_content_prob=1.5), 'bad-setting', ['perturb_content_prob=1.5', '0 to 1']),
    (dict(perturb_position_prob=-0.5), 'bad-setting', ['perturb_position_prob=-0.5', '0 to 1']),
    (dict(supervision_position=3), 'bad-setting', ['supervision_position=3', 'list']),
    (dict(bbox_head=[dict(type='AdaMixerHead', num_classes=3), dict(type='AdaMixerHead')]),
     'settings-mismatch', ['bbox_head', 'num_classes', '[3, 80]']),
    (dict(bbox_head=[dict(type='AdaMixerHead', in_points=0)]), 'bad-setting', ['in_points=0', '1']),
    (dict(frozen_stages=3), 'bad-setting', ['frozen_stages=3', '0 to 2']),
    (dict(bbox_head=[]), 'bad-setting', ['bbox_head', '1 or 2', '0']),
    (dict(bbox_head=[dict(type='AdaMixerHead')] * 6), 'bad-setting', ['bbox_head', '1 or 2', '6']),
    (dict(bbox_head=[dict(type='AdaMixerHead', content_dim=60)]), 'settings-mismatch',
     ['content_dim=60', 'divisible by 8']),
    (dict(bbox_head=[dict(type='AdaMixerHead', content_dim=64, num_heads=7)]), 'settings-mismatch',
     ['content_dim=64', 'num_heads=7']),
    (dict(bbox_head=[dict(type='AdaMixerHead', n_groups=3)]), 'settings-mismatch',
     ['feat_channels=256', 'n_groups=3']),
    (dict(bbox_head=[dict(type='AdaMixerHead', content_dim=32)]), 'settings-mismatch',
     ['proposal_feature_channel=64', 'content_dim=32']),
]


@pytest.mark.parametrize('roi_head, code, words', BAD_HEADS)
def test_bad_arguments_are_named_at_once(roi_head, code, words):
    with refused(code, *words):
        build(**roi_head)


def test_stacked_head_with_a_list_that_does_not_fit():
    config = small_config()
    config.roi_head = dict(
        type='FFNDetRoIHead', num_stages=6, bbox_head=config.roi_head.bbox_head)
    with refused('bad-setting', 'FFNDetRoIHead', 'bbox_head', '1 or 6', '2'):
        build(config)


@pytest.mark.parametrize('part', ['roi_head', 'rpn_head', 'neck', 'layer', 'detector'])
def test_unknown_arguments_are_named(part):
    config = small_config()
    {'roi_head': config.roi_head, 'rpn_head': config.rpn_head, 'neck': config.neck,
     'layer': config.roi_head.bbox_head[0], 'detector': config}[part]['refinement_step'] = 3
    with pytest.raises(TypeError, match="unexpected keyword argument 'refinement_step'"):
        build(config)


def test_placeholder_arguments_have_no_module_behind_them():
    extractor = dict(type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7),
                     out_channels=64, featmap_strides=[4])
    plain, official = build(), build(bbox_roi_extractor=extractor, dense_stride=4)
    assert [n for n, _ in official.named_modules()] == [n for n, _ in plain.named_modules()]


@pytest.mark.parametrize('strides, words', [
    ([4, 8, 16], ['3', '4', 'model.roi_head.featmap_strides', 'model.neck.num_outs']),
    ([8, 16, 32, 64], ['24 cells', '96 pixels', 'stride 4', '8'])])
def test_strides_must_be_those_of_the_neck(strides, words):
    with refused('settings-mismatch', f'featmap_strides={tuple(strides)}', *words):
        losses_of(build(featmap_strides=strides))


def test_channels_must_be_those_of_the_neck():
    config = small_config()
    config.neck.out_channels = 32
    with refused('settings-mismatch', '32', 'feat_channels=64', 'neck.out_channels'):
        losses_of(build(config))


def test_channels_must_divide_by_the_groups_of_the_norm():
    config = small_config()
    config.neck.out_channels = 48
    with refused('bad-setting', 'out_channels=48', '32'):
        build(config)


def test_max_per_img_below_one():
    config = small_config()
    config.test_cfg.rcnn.max_per_img = 0
    with refused('bad-setting', 'max_per_img=0', '1'):
        build(config)


def test_max_per_img_above_all_there_is(log):
    config = small_config()
    config.test_cfg.rcnn.max_per_img = 500
    model = build(config)
    assert any('max_per_img=500' in line and '120' in line for line in log)
    assert len(detections(model)[0].pred_instances) == 120


def test_leftovers_of_released_checkpoints_are_ignored_with_one_line(log):
    model = build()
    state_dict = model.state_dict()
    for i in (0, 1):
        prefix = f'roi_head.bbox_head.{i}.instance_interactive_conv'
        state_dict[f'{prefix}.fc_layer.weight'] = torch.zeros(2, 2)
        state_dict[f'{prefix}_norm.bias'] = torch.zeros(2)
    model.load_state_dict(state_dict, strict=True)
    lines = [line for line in log if 'instance_interactive_conv' in line]
    assert len(lines) == 1 and '4 tensors' in lines[0]
