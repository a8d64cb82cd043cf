"""The configs: parameters, optimiser groups, schedules and pipelines of the released models."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from small_model import ROOT

REFERENCE = ROOT / 'tests' / 'data' / 'checkpoints'
OURS = ROOT / 'configs' / 'deqdet'
SPARSE = ROOT / 'configs' / 'sparse_rcnn'
UNUSED = 'instance_interactive_conv'


def load(path):
    return Config.fromfile(str(path))


def build(cfg):
    from mmdet.registry import MODELS
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


def rows(name):
    lines = (REFERENCE / name).read_text().splitlines()
    return {row[0]: row[1:] for row in (line.split('\t') for line in lines if line[0] != '#')
            if UNUSED not in row[0]}


@pytest.mark.parametrize('schedule', ['1x', '2x'])
def test_state_dict_is_that_of_the_released_model(schedule):
    model = build(load(OURS / f'deqdet_r50_{schedule}_coco.py'))
    shapes = {key: 'x'.join(map(str, value.shape)) or 'scalar'
              for key, value in model.state_dict().items()}
    expected = {key: row[0] for key, row in rows(f'deqdet_r50_{schedule}.tsv').items()}
    assert shapes == expected


def test_every_parameter_gets_what_it_got_from_the_official_optimiser():
    cfg = load(OURS / 'deqdet_r50_1x_coco.py')
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    actual = {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups for parameter in group['params']
        if parameter.requires_grad
    }
    expected = {key: tuple(map(float, row)) for key, row in rows('optimizer_r50_1x.tsv').items()}
    assert set(actual) == set(expected)
    for name, values in expected.items():
        assert actual[name] == pytest.approx(values), name
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert wrapper.clip_grad_kwargs == dict(max_norm=1.0, norm_type=2)


def test_one_iteration_of_the_schedule_counts_16_images():
    for schedule, epochs, drops in (('1x', 12, [8, 11]), ('2x', 24, [16, 22])):
        cfg = load(OURS / f'deqdet_r50_{schedule}_coco.py')
        warmup, steps = cfg.param_scheduler
        assert (warmup.type, warmup.start_factor, warmup.end) == ('LinearLR', 0.001, 500)
        assert cfg.train_cfg.max_epochs == steps.end == epochs and steps.milestones == drops
        assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16


def _from_package(path):
    """A config that mmdet ships."""
    from pathlib import Path

    import mmdet
    file = Path(mmdet.__file__).parent / '.mim' / 'configs' / path
    if not file.exists():
        pytest.skip('this mmdet was installed without its configs')
    return Config.fromfile(str(file))


@pytest.mark.parametrize('schedule, theirs', [
    ('1x', '_base_/datasets/coco_detection.py'),
    ('2x', 'sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py')])
def test_data_is_that_of_mmdet(schedule, theirs):
    ours, theirs = load(OURS / f'deqdet_r50_{schedule}_coco.py'), _from_package(theirs)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator'):
        assert ours[key].to_dict() == theirs[key].to_dict(), key


def test_the_two_forms():
    released = load(OURS / 'deqdet_r50_2x_coco.py').model
    paper = load(OURS / 'deqdet_r50_p64-32_2x_coco.py').model
    assert [layer.in_points for layer in released.roi_head.bbox_head] == [64, 64]
    assert [layer.in_points for layer in paper.roi_head.bbox_head] == [64, 32]
    assert released.rpn_head.num_proposals == released.test_cfg.rcnn.max_per_img == 300
    assert released.roi_head.supervision_position == [1, 3, 6, 9, 12, 20]
    # T_train = 20, T_infer = 25 refinements: one follows after refinement_steps.
    assert paper.roi_head.refinement_steps == 20 and paper.test_cfg.rcnn.refinement_steps == 24
    cfg = load(OURS / 'deqdet_r50_p64-32_1x_coco.py')
    layers = build(cfg).roi_head.bbox_head
    assert [layer.sampling_n_mixing.in_points for layer in layers] == [64, 32]


def test_sparse_rcnn_is_that_of_mmdet():
    ours = load(SPARSE / 'sparse_rcnn_r50_3x_coco.py')
    theirs = _from_package('sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py')
    ours.model.roi_head.bbox_head = [ours.model.roi_head.bbox_head] * 6  # it builds six of one config
    theirs.model.backbone.init_cfg = ours.model.backbone.init_cfg  # the same file under another name
    for key in ('model', 'param_scheduler', 'train_dataloader', 'val_dataloader', 'val_evaluator'):
        assert ours[key] == theirs[key], key
    assert ours.train_cfg.max_epochs == theirs.train_cfg.max_epochs == 36
    for key in ('optimizer', 'clip_grad'):
        assert ours.optim_wrapper[key] == theirs.optim_wrapper[key], key
    assert ours.optim_wrapper.paramwise_cfg is None


@pytest.mark.parametrize('schedule, epochs, drops', [('2x', 24, [16, 22]), ('3x', 36, [27, 33])])
def test_schedules_of_deq_sparse_rcnn(schedule, epochs, drops):
    cfg, stacked = (load(SPARSE / f'{name}sparse_rcnn_r50_{s}_coco.py')
                    for name, s in (('deq_', schedule), ('', '3x')))
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == epochs
    assert cfg.param_scheduler[1].milestones == drops
    for key in ('optim_wrapper', 'train_dataloader', 'val_dataloader', 'val_evaluator'):
        assert cfg[key] == stacked[key], key


def test_a_shared_head_has_half_the_parameters():
    """Supplement, Table 2: 53 M instead of 110 M."""
    counts = []
    for name in ('deq_sparse_rcnn_r50_2x_coco.py', 'sparse_rcnn_r50_3x_coco.py'):
        with torch.device('meta'):  # sizes only
            model = build(load(SPARSE / name))
        counts.append(sum(parameter.numel() for parameter in model.parameters()) / 1e6)
    assert counts == pytest.approx([53.4, 106.3], abs=0.05)


def test_the_pair_on_the_digits_differs_in_its_head_alone():
    deq, stacked = (load(SPARSE / f'{name}sparse_rcnn_digits.py') for name in ('deq_', ''))
    assert deq.model.roi_head.perturb_position_intensity == 4
    for key in ('perturb_position_intensity', 'grad_accumulation'):
        deq.model.roi_head.pop(key)
    assert (deq.model.roi_head.pop('type'), stacked.model.roi_head.pop('type')) == (
        'DEQ_SparseRoIHead', 'SparseRoIHead')
    assert deq.to_dict() == stacked.to_dict()


@pytest.mark.parametrize('name', sorted(p.name for p in (ROOT / 'projects/configs').glob('*.py')))
def test_published_names_point_to_our_configs(name):
    pointer = ROOT / 'projects' / 'configs' / name
    target = OURS / name.replace('eqdet', 'deqdet')
    assert load(pointer).to_dict() == load(target).to_dict()
    assert len(pointer.read_text().splitlines()) == 1


def test_pretrained_weights_need_no_torchvision():
    for path in sorted([*OURS.glob('*coco.py'), *SPARSE.glob('*coco.py')]):
        checkpoint = load(path).model.backbone.init_cfg.checkpoint
        assert re.fullmatch(r'https://.+\.pth', checkpoint)
