# mmdet's Faster R-CNN for pictures of about 96 pixels. The settings are those of
# faster-rcnn_r50_fpn_1x_coco.py, but anchors, widths and numbers of samples fit small pictures with few
# objects.
_base_ = ['./resnet18_digits.py', './region_proposals.py']

strides = [4, 8, 16, 32]  # not 64: of such cells a picture has one to four
box_coder = dict(type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.])
model = dict(
    type='FasterRCNN',
    neck=dict(
        type='FPN', in_channels=_base_.backbone_channels, out_channels=_base_.width, num_outs=4),
    rpn_head=dict(
        type='RPNHead',
        in_channels=_base_.width,
        feat_channels=_base_.width,
        # Digits are 20 to 40 pixels large, and higher than wide. Three scales give 24, 32 and 40 at stride 8.
        anchor_generator=dict(
            type='AnchorGenerator', scales=[3, 4, 5], ratios=[1.0, 1.5, 2.0], strides=strides),
        bbox_coder=_base_.region_coder,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            # Published: 0, which takes more samples in large boxes. For small ones two are enough.
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
            out_channels=_base_.width,
            featmap_strides=strides),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=_base_.width,
            fc_out_channels=256,  # four times the width, as published
            roi_feat_size=7,
            num_classes=10,
            bbox_coder=dict(**box_coder, target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0))),
    train_cfg=dict(
        rpn=_base_.region_training,
        rpn_proposal=_base_.proposals,
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=-1),
            sampler=dict(
                type='RandomSampler',
                num=64,  # published: 512
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True),
            pos_weight=-1,
            debug=False)),
    test_cfg=dict(
        rpn=_base_.proposals,
        rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=20)))
