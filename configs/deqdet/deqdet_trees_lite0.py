# Tree crowns in aerial photographs, with a backbone pretrained on ImageNet, on a CPU. The data is small, so
# queries start at region proposals, and an object is matched to all queries that overlap it.
_base_ = [
    '../_base_/models/deqdet_lite0.py', '../_base_/models/region_queries.py', '../_base_/datasets/trees.py',
    '../_base_/schedules/schedule_trees.py', '../_base_/default_runtime.py'
]

queries = 80  # a tile has at most 16 trees, and pieces of others; a tree needs several queries to learn fast
decoder_layer = _base_.decoder_layer
# Crowns have 9 to 108 pixels: the published scale of -1 reads half of them mostly at strides 16 and 32.
decoder_layer.update(num_classes=1, start_scale=-3)
model = dict(
    neck=dict(_delete_=True, in_channels=_base_.lite_channels, **_base_.pyramid),
    rpn_head=dict(
        _delete_=True,
        num_proposals=queries,
        # Crowns are round, and have 9 to 108 pixels: squares of 16, 32, 64 and 128.
        anchor_generator=dict(type='AnchorGenerator', scales=[2, 4], ratios=[1.0], strides=[8, 16, 32]),
        **_base_.region_queries),
    # Queries start near trees, so a short path of refinements is enough. Published: 20 steps, six positions.
    roi_head=dict(
        refinement_steps=3,
        supervision_position=[1],
        match_at='proposals',
        bbox_head=[decoder_layer, decoder_layer]),
    train_cfg=dict(
        rpn=dict(_delete_=True, **_base_.region_training),
        rpn_proposal=_base_.proposals,
        rcnn=[_base_.matching_by_overlap]),
    test_cfg=dict(
        # Training has overlapping proposals (0.7), which give a tree more queries.
        rpn=dict(_delete_=True, **_base_.spread_proposals),
        rcnn=dict(max_per_img=40, nms=dict(_base_.suppression, iou_threshold=0.6))))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.lite_parameters))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
