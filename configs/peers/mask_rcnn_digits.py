# mmdet's Mask R-CNN, small, on the demo's data. The settings are those of mask-rcnn_r50_fpn_1x_coco.py, but
# anchors, widths and numbers of samples fit small pictures with few objects. Optimiser and schedule are those
# of the demo: from scratch, after one epoch, AdamW was better than SGD with the published rate of 0.02.
_base_ = './faster_rcnn_digits.py'

model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2),
            out_channels=_base_.width,
            featmap_strides=_base_.strides),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=2,  # as in deqdet_digits_mask-local.py
            in_channels=_base_.width,
            conv_out_channels=_base_.width,
            num_classes=10,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))),
    # The published Faster R-CNN has False here.
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=True), mask_size=28)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)))

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(with_mask=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
