"""The configs of DEQ Sparse R-CNN and of its baseline."""


import pytest
import torch
from mmengine.config import Config
from small_model import ROOT

SPARSE = ROOT / 'configs' / 'sparse_rcnn'
THEIRS = 'sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py'


def load(name):
    return Config.fromfile(str(SPARSE / name))


def test_sparse_rcnn_is_that_of_mmdet(config_of_mmdet):
    ours, theirs = load('sparse_rcnn_r50_3x_coco.py'), config_of_mmdet(THEIRS)
    ours.model.roi_head.bbox_head = [ours.model.roi_head.bbox_head] * 6  # it builds six from one config
    theirs.model.backbone.init_cfg = ours.model.backbone.init_cfg  # the same file under another name
    for key in ('model', 'param_scheduler', 'train_dataloader', 'val_dataloader', 'val_evaluator'):
        assert ours[key] == theirs[key], key
    assert ours.train_cfg.max_epochs == theirs.train_cfg.max_epochs == 36
    for key in ('optimizer', 'clip_grad'):
        assert ours.optim_wrapper[key] == theirs.optim_wrapper[key], key
    assert ours.optim_wrapper.paramwise_cfg is None


@pytest.mark.parametrize('schedule, epochs, drops', [('2x', 24, [16, 22]), ('3x', 36, [27, 33])])
def test_schedules_of_deq_sparse_rcnn(schedule, epochs, drops):
    cfg, stacked = (load(f'{name}sparse_rcnn_r50_{s}_coco.py')
                    for name, s in (('deq_', schedule), ('', '3x')))
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == epochs
    assert cfg.param_scheduler[1].milestones == drops
    for key in ('optim_wrapper', 'train_dataloader', 'val_dataloader', 'val_evaluator'):
        assert cfg[key] == stacked[key], key


def test_a_shared_head_has_half_the_parameters():
    """Supplement, Table 2: 53 M instead of 110 M."""
    from mmdet.registry import MODELS
    counts = []
    for name in ('deq_sparse_rcnn_r50_2x_coco.py', 'sparse_rcnn_r50_3x_coco.py'):
        with torch.device('meta'):  # sizes only
            model = MODELS.build(load(name).model)
        counts.append(sum(parameter.numel() for parameter in model.parameters()) / 1e6)
    assert counts == pytest.approx([53.4, 106.3], abs=0.05)


def test_the_pair_on_the_digits_differs_in_its_head_alone():
    deq, stacked = (load(f'{name}sparse_rcnn_digits.py') for name in ('deq_', ''))
    assert deq.model.roi_head.perturb_position_intensity == 4
    for key in ('perturb_position_intensity', 'grad_accumulation'):
        deq.model.roi_head.pop(key)
    assert (deq.model.roi_head.pop('type'), stacked.model.roi_head.pop('type')) == (
        'DEQ_SparseRoIHead', 'SparseRoIHead')
    assert deq.to_dict() == stacked.to_dict()


@pytest.mark.parametrize('path', sorted(SPARSE.glob('*_coco*.py')), ids=lambda path: path.stem)
def test_pretrained_weights_need_no_torchvision(path):
    checkpoint = load(path.name).model.backbone.init_cfg.checkpoint
    assert checkpoint == 'https://download.pytorch.org/models/resnet50-0676ba61.pth'
