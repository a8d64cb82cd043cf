"""The configs with masks: COCO, digits, nuclei, and the other systems on the digits."""

import re
from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from small_model import ROOT, batch_of, few_queries, losses_of, total
from small_model import build as build_and_initialise
from test_configs import build, load
from trainings import shell

CONFIGS = ROOT / 'configs'
MASKS = sorted(path for room in ('deqdet', 'sparse_rcnn') for path in (CONFIGS / room).glob('*_mask-*.py'))
COCO = [path for path in MASKS if '_coco' in path.name]
WITH_BOX_CONFIG = [path for path in MASKS if 'nuclei' not in path.name]
PEERS = [CONFIGS / 'peers' / f'{name}_digits.py' for name in ('mask_rcnn', 'queryinst')]
QUERYINST = 'queryinst/queryinst_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py'
MASK_RCNN = 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'


def name_of(path):
    return path.stem


def every(paths):
    return pytest.mark.parametrize('path', paths, ids=name_of)


def without_masks(path):
    return load(path.with_name(re.sub(r'_mask-\w+', '', path.name)))


@every(WITH_BOX_CONFIG)
def test_all_but_the_masks_is_as_in_the_box_config(path):
    ours, boxes = load(path).to_dict(), without_masks(path).to_dict()
    head = ours['model']['roi_head'].pop('mask_head')
    kind = re.search(r'_mask-(\w+)', path.stem)[1]
    assert head['type'] == {'local': 'WarpedEfficientDynamicMaskHead', 'global': 'DeCoupleMLVLEHead'}[kind]
    assert ours['model']['data_preprocessor'].pop('pad_mask')
    for pipeline in (ours['train_pipeline'], ours['train_dataloader']['dataset']['pipeline']):
        assert [step.pop('with_mask') for step in pipeline if 'with_mask' in step] == [True]
    for evaluator in ('val_evaluator', 'test_evaluator'):
        assert ours[evaluator].pop('metric') == ['bbox', 'segm']
        assert boxes[evaluator].pop('metric') == 'bbox'
    for entry in ours['model']['train_cfg']['rcnn']:
        entry.pop('num_points', None)
    assert {key: ours[key] for key in boxes} == boxes


@every(COCO)
def test_training_data_and_evaluation_are_those_of_mmdet(path, config_of_mmdet):
    ours, theirs = load(path), config_of_mmdet(MASK_RCNN if '_1x_' in path.name else QUERYINST)
    assert ours.train_dataloader.to_dict() == theirs.train_dataloader.to_dict()
    assert ours.val_evaluator.to_dict() == theirs.val_evaluator.to_dict()
    assert ours.model.data_preprocessor.to_dict() == theirs.model.data_preprocessor.to_dict()


def test_local_head_is_that_of_queryinst(config_of_mmdet):
    theirs = config_of_mmdet(QUERYINST).model.roi_head
    for path in COCO:
        head = load(path).model.roi_head.mask_head.to_dict()
        if 'local' in path.name:
            assert head.pop('type') == 'WarpedEfficientDynamicMaskHead'
            assert head.pop('mask_roi_extractor') == theirs.mask_roi_extractor
            head['loss_mask'] = head.pop('loss_dice')
            assert dict(head, type='DynamicMaskHead') == theirs.mask_head[0]


@pytest.mark.parametrize('name', ['deqdet_r50_1x_coco_mask-local', 'deqdet_swins_2x_coco_mask-global'])
def test_mask_heads_learn_as_the_decoder_does(name):
    path = CONFIGS / 'deqdet' / f'{name}.py'
    model = build(path)
    wrapper = build_optim_wrapper(model, load(path).optim_wrapper)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    settings = {(group['lr'], group['weight_decay']) for group in wrapper.optimizer.param_groups
                for parameter in group['params'] if '.mask_head.' in names[id(parameter)]}
    decoder = {(group['lr'], group['weight_decay']) for group in wrapper.optimizer.param_groups
               for parameter in group['params'] if '.bbox_head.' in names[id(parameter)]}
    assert len(settings) == 1 and settings == decoder
    assert next(iter(settings)) == pytest.approx((1e-4, 0.1))


def shortened(path):
    """Model config of a mask config with its real widths, but few queries and steps."""
    config = few_queries(load(path).model)
    if config.roi_head.type != 'DEQDetRoIHead':
        del config.roi_head.refinement_steps
        config.roi_head.num_stages = 3
    if config.roi_head.type == 'FFNDetRoIHead':
        del config.roi_head.supervision_position
    if config.roi_head.type == 'DEQ_SparseRoIHead':
        config.roi_head.stage_loss_weights = [1, 1, 1]
    return config


def check_step(model, config, objects):
    """A training step reaches every mask parameter; a prediction has masks."""
    losses = losses_of(model.train(), objects=objects)
    total(losses).backward()
    names = {key.rpartition('loss_')[2] for key in losses if 'loss_' in key}
    assert names >= {'cls', 'bbox', 'dice' if 'local' in config else 'mask'}
    unused = [name for name, parameter in model.named_parameters()
              if parameter.requires_grad and parameter.grad is None]
    assert not unused, 'distributed training would stop'
    batch = batch_of(model.eval(), objects)
    with torch.no_grad():
        samples = model.predict(batch['inputs'], batch['data_samples'])
    for sample in samples:
        found = sample.pred_instances
        assert found.masks.dtype == torch.bool
        assert found.masks.shape == (len(found), *sample.ori_shape)


@pytest.mark.slow
@every([CONFIGS / name for name in (
    'deqdet/deqdet_r50_1x_coco_mask-local.py', 'deqdet/deqdet_r50_1x_coco_mask-global.py',
    'deqdet/ffndet_r50_1x_coco_mask-local.py', 'sparse_rcnn/deq_sparse_rcnn_r50_2x_coco_mask-local.py')])
def test_coco_models_learn_and_predict(path):
    check_step(build_and_initialise(shortened(path)), path.stem, ((2, 7), (4, )))


@every([path for path in MASKS if path not in COCO])
def test_small_models_learn_and_predict(path):
    model = build_and_initialise(deepcopy(load(path).model))
    check_step(model, path.stem, ((0, 0), (0, )))


@every([path for path in COCO if path.parent.name == 'sparse_rcnn'] + PEERS)
def test_other_configs_build(path):
    build(path)


@every(PEERS)
def test_peers_have_backbone_data_and_length_of_the_demo(path):
    peer, ours = load(path), load(CONFIGS / 'deqdet' / 'deqdet_digits_mask-local.py')
    for key in ('backbone', 'data_preprocessor'):
        assert peer.model[key] == ours.model[key], key
    for key in ('train_dataloader', 'val_dataloader', 'val_evaluator', 'train_cfg', 'param_scheduler',
                'randomness'):
        assert peer[key] == ours[key], key
    assert peer.model.neck.out_channels == ours.model.neck.out_channels
    assert peer.model.test_cfg.rcnn.max_per_img == ours.model.test_cfg.rcnn.max_per_img


@every(PEERS)
def test_peers_learn_and_predict_without_compiled_operators(path):
    torch.manual_seed(0)
    model = build_and_initialise(deepcopy(load(path).model)).train()
    batch = batch_of(model)
    losses = model.loss(batch['inputs'], batch['data_samples'])
    assert any(key.endswith('loss_mask') for key in losses)
    parsed, _ = model.parse_losses(losses)
    parsed.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all()
               for parameter in model.roi_head.mask_head.parameters())
    with torch.no_grad():
        samples = model.eval().predict(batch['inputs'], batch['data_samples'])
    for sample in samples:
        assert sample.pred_instances.masks.shape == (len(sample.pred_instances), *sample.ori_shape)


# The argument names of the released heads, with widths of the demo's model.
LOCAL = '''dict(
    type='WarpedEfficientDynamicMaskHead', num_convs=4, roi_feat_size=14, in_channels=64,
    conv_kernel_size=3, conv_out_channels=64, num_classes=10, class_agnostic=False,
    upsample_cfg=dict(type='deconv', scale_factor=2), conv_cfg=None, norm_cfg=dict(type='BN'),
    dynamic_conv_cfg=dict(type='DynamicConv', in_channels=64, feat_channels=16, out_channels=64,
        input_feat_shape=14, with_proj=False, act_cfg=dict(type='ReLU', inplace=True),
        norm_cfg=dict(type='LN')),
    mask_roi_extractor=dict(type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2), out_channels=64,
        featmap_strides=[4, 8, 16, 32]),
    loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
    loss_dice=dict(type='DiceLoss', loss_weight=8.0, use_sigmoid=True, activate=False, eps=1e-5))'''
_LOSSES = '''
    loss_mask=dict(type='FocalLoss', use_sigmoid=True, alpha=0.25, gamma=2.0, loss_weight=20.0),
    loss_dice=dict(type='DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, loss_weight=1.0),
    init_cfg=None)'''
GLOBAL = f"dict(type='DeCoupleHead', embed_dim=64, {_LOSSES}"
LEVELS = f"dict(type='DeCoupleMLVLEHead', embed_dim=64, mlvl=4, share_filter=True, {_LOSSES}"
OFFICIAL = '''
_base_ = {base!r}
mask_head = {head}
matching = dict({{**_base_.matching, 'sampler': dict(type='UnifiedPseudoSampler')}}, mask_size=28,
    num_points=128, oversample_ratio=3.0, importance_sample_ratio=0.75)
model = dict(
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(mask_head=[mask_head] * {entries}),
    train_cfg=dict(rcnn=[matching]),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)))
'''


@pytest.mark.parametrize('entries', [1, 2])
@pytest.mark.parametrize('head', [LOCAL, GLOBAL, LEVELS], ids=['local', 'global', 'levels'])
def test_a_config_of_the_official_form_builds_unchanged(head, entries, tmp_path):
    path = tmp_path / 'official.py'
    base = str(CONFIGS / 'deqdet/deqdet_digits.py')
    path.write_text(OFFICIAL.format(base=base, head=head, entries=entries))
    model = build_and_initialise(Config.fromfile(str(path)).model)
    layers = {name.split('.')[2] for name in model.state_dict() if name.startswith('roi_head.mask_head.')}
    assert layers == {'0', '1'}
    check_step(model, 'local' if head is LOCAL else 'global', ((2, 7), (4, )))


@pytest.mark.slow
def test_masks_are_added_to_the_trained_demo(demo, tmp_path):
    """The mask heads learn, and all that boxes depend on stays the same to the bit."""
    trained = CONFIGS / 'deqdet' / 'deqdet_digits_add-masks.py'
    assert load(trained).load_from == 'work_dirs/demo/epoch_8.pth'
    shell('dist_train.sh', trained, 1, '--work-dir', tmp_path, '--cfg-options',
          f'load_from={demo.checkpoint(0)}', 'train_dataloader.dataset.indices=500', folder=demo.folder,
          OMP_NUM_THREADS='1')
    before, after = (torch.load(path, weights_only=False)['state_dict']
                     for path in (demo.checkpoint(0), tmp_path / 'epoch_1.pth'))
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all('mask_head' in key for key in after.keys() - before.keys())
    log = next(tmp_path.glob('*/*.log')).read_text()
    boxes, masks = (float(re.search(rf'coco/{kind}_mAP: ([\d.]+)', log)[1]) for kind in ('bbox', 'segm'))
    assert boxes == demo.ap[0, 8][0] and masks > 0.4
