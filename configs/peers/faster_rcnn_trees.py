# mmdet's Faster R-CNN, small, on tree crowns, with a pretrained backbone. Optimiser and schedule are those
# of all detectors on this data.
_base_ = [
    '../_base_/models/faster_rcnn_digits.py', '../_base_/models/lite0_backbone.py',
    '../_base_/datasets/trees.py', '../_base_/schedules/schedule_trees.py', '../_base_/default_runtime.py'
]

model = dict(
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(_delete_=True, **_base_.lite_backbone),
    neck=dict(in_channels=_base_.lite_channels),
    # Crowns have 9 to 108 pixels: 16, 32, 64 and 128 at the four strides. The published scale of 8 begins
    # at 32. The ratios are published.
    rpn_head=dict(anchor_generator=dict(scales=[4], ratios=[0.5, 1.0, 2.0])),
    roi_head=dict(bbox_head=dict(num_classes=1)),
    # A tile has up to 19 trees. A quarter of the samples may be trees.
    train_cfg=dict(rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rcnn=dict(max_per_img=40)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.lite_parameters))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
