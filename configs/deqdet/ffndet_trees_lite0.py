# The stacked decoder on tree crowns in aerial photographs, with a pretrained backbone: six layers instead
# of the equilibrium.
_base_ = [
    '../_base_/models/deqdet_lite0.py', '../_base_/datasets/trees.py',
    '../_base_/schedules/schedule_trees.py', '../_base_/default_runtime.py'
]

decoder_layer = _base_.decoder_layer
decoder_layer.update(num_classes=1)
model = dict(
    rpn_head=dict(num_proposals=40),  # a tile has at most 16 trees, and pieces of others
    roi_head=dict(_delete_=True, type='FFNDetRoIHead', num_stages=6, bbox_head=decoder_layer),
    test_cfg=dict(rcnn=dict(max_per_img=40)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.lite_parameters))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
