"""The configs: parameters, optimiser groups, schedules and pipelines of the released models."""

import re
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from small_model import ROOT

REFERENCE = ROOT / 'tests' / 'data' / 'checkpoints'
OURS = ROOT / 'configs' / 'deqdet'
PUBLISHED = ROOT / 'projects' / 'configs'
UNUSED = 'instance_interactive_conv'
EXPERIMENTS = sorted(str(path.relative_to(OURS)) for path in OURS.rglob('*.py'))
ABLATIONS = [name for name in EXPERIMENTS if name.startswith('ablations/')]


@cache
def load(path):
    return Config.fromfile(str(path))


def build(path):
    """The model of a config on the meta device, without values, to save time and memory."""
    from mmdet.registry import MODELS

    # Swin reads its drop rates from a tensor, which must have values.
    linspace = partial(torch.linspace, device='cpu')
    with mock.patch.object(torch, 'linspace', linspace), torch.device('meta'):
        # Building changes the config, which other tests read.
        return MODELS.build(deepcopy(load(path).model))


def rows(name):
    lines = (REFERENCE / name).read_text().splitlines()
    return {row[0]: row[1:] for row in (line.split('\t') for line in lines if line[0] != '#')
            if UNUSED not in row[0]}


@pytest.mark.parametrize('name', ['r50_1x', 'r50_2x', 'r101_2x', 'swins_2x', 'swinl_2x', 'swinl_1x_900q'])
def test_state_dict_is_that_of_the_released_model(name):
    config = f'deqdet_{name}_coco.py' if name[-1] == 'x' else 'deqdet_swinl_1x_900q_coco.py'
    shapes = {key: 'x'.join(map(str, value.shape)) or 'scalar'
              for key, value in build(OURS / config).state_dict().items()}
    expected = {key: row[0] for key, row in rows(f'deqdet_{name}.tsv').items()}
    assert shapes == expected


@pytest.mark.parametrize('name', ['r50_1x', 'swins_2x'])
def test_every_parameter_gets_what_it_got_from_the_official_optimiser(name):
    path = OURS / f'deqdet_{name}_coco.py'
    model = build(path)
    wrapper = build_optim_wrapper(model, load(path).optim_wrapper)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    actual = {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups for parameter in group['params']
        if parameter.requires_grad
    }
    expected = {key: tuple(map(float, row)) for key, row in rows(f'optimizer_{name}.tsv').items()}
    assert set(actual) == set(expected)
    for name, values in expected.items():
        assert actual[name] == pytest.approx(values), name
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert wrapper.clip_grad_kwargs == dict(max_norm=1.0, norm_type=2)


@pytest.mark.parametrize('name', [name for name in EXPERIMENTS if 'coco' in name])
def test_all_optimisers_are_one_of_the_two_that_were_compared(name):
    compared = 'deqdet_swins_2x_coco.py' if 'swin' in name else 'deqdet_r50_1x_coco.py'
    assert load(OURS / name).optim_wrapper == load(OURS / compared).optim_wrapper


CROP = 'sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py'
PLAIN = '_base_/datasets/coco_detection.py'


@pytest.mark.parametrize('name, epochs, data, queries, detections', [
    ('deqdet_r50_1x_coco', 12, PLAIN, 100, 100),
    ('deqdet_r50_2x_coco', 24, CROP, 300, 300),
    ('deqdet_r50_p64-32_1x_coco', 12, PLAIN, 100, 100),
    ('deqdet_r50_p64-32_2x_coco', 24, CROP, 300, 300),
    ('deqdet_r101_2x_coco', 24, CROP, 300, 300),
    ('deqdet_swins_2x_coco', 24, CROP, 300, 300),
    ('deqdet_swinl_1x_coco', 12, PLAIN, 300, 300),
    ('deqdet_swinl_2x_coco', 24, CROP, 300, 300),
    ('deqdet_swinl_1x_900q_coco', 12, PLAIN, 900, 300),
    ('deqdet_swinl_2x_900q_coco', 24, CROP, 900, 300),
    ('deqdet_swinl_1x_coco_decoder384', 12, PLAIN, 300, 300),
    ('deqdet_swinl_1x_coco_decoder512', 12, PLAIN, 300, 300),
    ('ffndet_r50_1x_coco', 12, PLAIN, 100, 100),
    ('ffndet_swinl_1x_coco', 12, PLAIN, 300, 300),
    ('ffndet_swinl_2x_coco', 24, PLAIN, 300, 300),
    *((name[:-len('.py')], 12, PLAIN, 100, 100) for name in ABLATIONS)])
def test_schedule_data_and_queries(name, epochs, data, queries, detections, config_of_mmdet):
    ours, theirs = load(OURS / f'{name}.py'), config_of_mmdet(data)
    warmup, steps = ours.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.end) == ('LinearLR', 0.001, 500)
    assert ours.train_cfg.max_epochs == steps.end == epochs
    assert steps.milestones == {12: [8, 11], 24: [16, 22]}[epochs] and steps.gamma == 0.1
    # One iteration on 8 workers uses 16 images.
    assert ours.train_dataloader.batch_size * 8 == ours.auto_scale_lr.base_batch_size == 16
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator'):
        assert ours[key].to_dict() == theirs[key].to_dict(), key
    assert ours.model.rpn_head.num_proposals == queries
    assert ours.model.test_cfg.rcnn.max_per_img == detections


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_every_config_builds(name):
    build(OURS / name)


def test_the_two_forms():
    released = load(OURS / 'deqdet_r50_2x_coco.py').model
    paper = load(OURS / 'deqdet_r50_p64-32_2x_coco.py').model
    assert [layer.in_points for layer in released.roi_head.bbox_head] == [64, 64]
    assert [layer.in_points for layer in paper.roi_head.bbox_head] == [64, 32]
    assert released.roi_head.supervision_position == [1, 3, 6, 9, 12, 20]
    # T_train = 20, T_infer = 25 refinements, including the one after refinement_steps.
    assert paper.roi_head.refinement_steps == 20 and paper.test_cfg.rcnn.refinement_steps == 24
    layers = build(OURS / 'deqdet_r50_p64-32_1x_coco.py').roi_head.bbox_head
    assert [layer.sampling_n_mixing.in_points for layer in layers] == [64, 32]


@pytest.mark.parametrize('name, window, pretrained_at, drop_path', [
    ('swins', 7, 224, 0.3), ('swinl', 12, 384, 0.2)])
def test_swin_has_what_no_parameter_shows(name, window, pretrained_at, drop_path):
    path = OURS / f'deqdet_{name}_2x_coco.py'
    config, backbone = load(path).model.backbone, build(path).backbone
    assert config.convert_weights, 'the released weights have other names'
    assert config.get('pretrain_img_size', 224) == pretrained_at
    blocks = [block for stage in backbone.stages for block in stage.blocks]
    assert [block.attn.window_size for block in blocks] == [window] * 24
    rates = [block.attn.drop.drop_prob for block in blocks]
    assert rates == pytest.approx([drop_path * i / 23 for i in range(24)])


@pytest.mark.parametrize('width', [384, 512])
def test_wider_decoder_samples_the_same_features(width):
    model = build(OURS / f'deqdet_swinl_1x_coco_decoder{width}.py')
    assert model.rpn_head.init_proposal_features.weight.shape == (300, width)
    assert model.neck.gn_out.weight.shape == (256, )
    for layer in model.roi_head.bbox_head:
        mixing = layer.sampling_n_mixing.adaptive_mixing
        # 4 groups of 64 channels, 64 points mixed to 128.
        assert mixing.parameter_generator[0].weight.shape == (4 * (64 * 64 + 64 * 128), width)
        assert mixing.out_proj.weight.shape == (width, 4 * 128 * 64)


@pytest.mark.parametrize('name', ['r50_1x', 'swinl_1x', 'swinl_2x'])
def test_stacked_decoder_is_six_of_the_same_layer(name):
    stacked, deq = (build(OURS / f'{kind}_{name}_coco.py') for kind in ('ffndet', 'deqdet'))
    layer = {key: value.shape for key, value in deq.roi_head.bbox_head[0].state_dict().items()}
    assert len(stacked.roi_head.bbox_head) == 6
    for stage in stacked.roi_head.bbox_head:
        assert {key: value.shape for key, value in stage.state_dict().items()} == layer
    for part in ('backbone', 'neck', 'rpn_head'):
        assert (load(OURS / f'ffndet_{name}_coco.py').model[part]
                == load(OURS / f'deqdet_{name}_coco.py').model[part])


@pytest.mark.parametrize('name, changes', [
    ('rag1', dict(rag=1)),
    ('rag3', dict(rag=3)),
    ('no-rap', dict(perturb_content_prob=0.0, perturb_position_prob=0.0)),
    ('omega20', dict(supervision_position=[20])),
    ('t10', dict(refinement_steps=10, supervision_position=[1, 3, 6, 9, 10]))])
def test_ablation_changes_one_thing_in_training(name, changes):
    ablation = load(OURS / 'ablations' / f'deqdet_r50_{name}_1x_coco.py').to_dict()
    expected = load(OURS / 'deqdet_r50_1x_coco.py').to_dict()
    assert all(expected['model']['roi_head'][key] != value for key, value in changes.items())
    expected['model']['roi_head'].update(changes)
    # Prediction takes 20 + 1 refinements, independent of training.
    steps = ablation['model']['test_cfg']['rcnn'].pop('refinement_steps', None)
    assert (steps or ablation['model']['roi_head']['refinement_steps']) == 20
    assert ablation == expected


@pytest.mark.parametrize('name', sorted(path.name for path in PUBLISHED.glob('*.py')))
def test_published_names_point_to_our_configs(name):
    pointer, target = PUBLISHED / name, OURS / name.replace('eqdet', 'deqdet')
    assert load(pointer).to_dict() == load(target).to_dict()
    assert len(pointer.read_text().splitlines()) == 1


def test_every_published_name_is_there():
    names = [f'eqdet_{name}_coco' for name in (
        'r50_1x', 'r50_2x', 'r101_2x', 'swins_2x', 'swinl_1x', 'swinl_2x', 'swinl_1x_900q', 'swinl_2x_900q')]
    names += ['eqdet_swinl_1x_coco_decoder384', 'eqdet_swinl_1x_coco_decoder512']
    names += [f'ffndet_{name}_coco' for name in ('r50_1x', 'swinl_1x', 'swinl_2x')]
    assert set(names) <= {path.stem for path in PUBLISHED.glob('*.py')}


@pytest.mark.parametrize('name', [name for name in EXPERIMENTS if 'coco' in name])
def test_pretrained_weights_need_no_torchvision(name):
    checkpoint = load(OURS / name).model.backbone.init_cfg.checkpoint
    assert re.fullmatch(r'https://.+\.pth', checkpoint)
    expected = {'r50': 'resnet50-', 'r101': 'resnet101-', 'swins': 'swin_small_patch4_window7_224.pth',
                'swinl': 'swin_large_patch4_window12_384_22k.pth'}
    backbone = Path(name).name.split('_')[1]
    assert Path(checkpoint).name.startswith(expected[backbone])
