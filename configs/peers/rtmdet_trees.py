# mmdet's RTMDet with the head of RTMDet-tiny, small, on tree crowns, with a pretrained backbone. Learning
# rate, weight decay and averages of the weights (EMA) are published, but the backbone learns slower, as
# with all detectors on this data. They see the same pictures: no mosaic, no mixup.
_base_ = [
    '../_base_/models/rtmdet_digits.py', '../_base_/models/lite0_backbone.py',
    '../_base_/datasets/trees.py', '../_base_/schedules/schedule_trees.py', '../_base_/default_runtime.py'
]

model = dict(
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(_delete_=True, out_indices=(3, 4, 5), **_base_.lite_backbone),
    neck=dict(in_channels=_base_.lite_channels[1:]),
    bbox_head=dict(num_classes=1),
    test_cfg=dict(max_per_img=40))
recipe = _base_.recipe
recipe.paramwise_cfg.update(custom_keys=_base_.lite_parameters)
optim_wrapper = recipe
custom_hooks = [_base_.averages]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
