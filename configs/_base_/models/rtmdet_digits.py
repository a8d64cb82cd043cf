# mmdet's RTMDet with the neck and head of rtmdet_tiny_8xb32-300e_coco.py, at another width, with the
# backbone of the other detectors instead of CSPNeXt. Levels have the published strides.
_base_ = './resnet18_digits.py'

norm = dict(type='BN')  # published: SyncBN, which a CPU does not have
activation = dict(type='SiLU', inplace=True)
model = dict(
    type='RTMDet',
    use_syncbn=False,
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(
        type='CSPNeXtPAFPN',
        in_channels=_base_.backbone_channels[1:],
        out_channels=_base_.width,
        num_csp_blocks=1,
        expand_ratio=0.5,
        norm_cfg=norm,
        act_cfg=activation),
    bbox_head=dict(
        type='RTMDetSepBNHead',
        num_classes=10,
        in_channels=_base_.width,
        stacked_convs=2,
        feat_channels=_base_.width,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        with_objectness=False,
        exp_on_reg=False,
        share_conv=True,
        pred_kernel_size=1,
        norm_cfg=norm,
        act_cfg=activation),
    train_cfg=dict(
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False),
    test_cfg=dict(
        nms_pre=30000,
        min_bbox_size=0,
        score_thr=0.001,
        nms=dict(type='nms', iou_threshold=0.65),
        max_per_img=20))

# For optim_wrapper: the published recipe, which does not clip gradients.
recipe = dict(
    optimizer=dict(lr=0.004, weight_decay=0.05),
    clip_grad=None,
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True))
averages = dict(
    type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True, priority=49)
