# mmdet's ATSS, small, on tree crowns, with a pretrained backbone. Optimiser and schedule are those of all
# detectors on this data; ATSS is published with SGD. The anchors are those of the digits: crowns have 9 to
# 108 pixels, half of them 31 to 56, and the anchors 32, 64 and 128.
_base_ = [
    '../_base_/models/atss_digits.py', '../_base_/models/lite0_backbone.py',
    '../_base_/datasets/trees.py', '../_base_/schedules/schedule_trees.py', '../_base_/default_runtime.py'
]

model = dict(
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(_delete_=True, **_base_.lite_backbone),
    neck=dict(in_channels=_base_.lite_channels),
    bbox_head=dict(num_classes=1),
    test_cfg=dict(max_per_img=40))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.lite_parameters))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
