# A small Sparse R-CNN on tree crowns in aerial photographs, with a pretrained backbone. Optimiser and
# schedule are those of all detectors on this data, as on the digits: the published rate is far too low for
# so few iterations.
_base_ = [
    '../_base_/models/sparse_rcnn_digits.py', '../_base_/models/lite0_backbone.py',
    '../_base_/datasets/trees.py', '../_base_/schedules/schedule_trees.py', '../_base_/default_runtime.py'
]

model = dict(
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(_delete_=True, **_base_.lite_backbone),
    neck=dict(in_channels=_base_.lite_channels),
    rpn_head=dict(num_proposals=40),  # as many as the queries of DEQDet on this data
    roi_head=dict(bbox_head=dict(num_classes=1)),
    test_cfg=dict(rcnn=dict(max_per_img=40)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.lite_parameters))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
