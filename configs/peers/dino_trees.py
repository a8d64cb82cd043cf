# mmdet's DINO, small, on tree crowns, with a pretrained backbone. Learning rates, weight decay and gradient
# norm are published. Data and schedule are those of all detectors on this data.
_base_ = [
    '../_base_/models/dino_digits.py', '../_base_/models/lite0_backbone.py',
    '../_base_/datasets/trees.py', '../_base_/schedules/schedule_trees.py', '../_base_/default_runtime.py'
]

model = dict(
    num_queries=100,  # as Deformable DETR on this data
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(_delete_=True, out_indices=(3, 4, 5), **_base_.lite_backbone),
    neck=dict(in_channels=_base_.lite_channels[1:]),
    bbox_head=dict(num_classes=1),
    test_cfg=dict(max_per_img=40))
optim_wrapper = dict(**_base_.recipe, paramwise_cfg=dict(custom_keys=_base_.lite_parameters))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
