# mmdet's ATSS for pictures of about 96 pixels: atss_r50_fpn_1x_coco.py with other widths, levels and anchors.
_base_ = './resnet18_digits.py'

model = dict(
    type='ATSS',
    neck=dict(
        type='FPN',
        in_channels=_base_.backbone_channels,
        out_channels=_base_.width,
        start_level=1,
        add_extra_convs='on_output',
        # Strides 8, 16 and 32. Published: also 64 and 128, of which a picture has one to four cells.
        num_outs=3),
    bbox_head=dict(
        type='ATSSHead',
        num_classes=10,
        in_channels=_base_.width,
        stacked_convs=4,
        feat_channels=_base_.width,
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            # Published: 8. Digits are 20 to 40 pixels large; the anchor at stride 8 has 32.
            octave_base_scale=4,
            scales_per_octave=1,
            strides=[8, 16, 32]),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[.0, .0, .0, .0],
            target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=20))
