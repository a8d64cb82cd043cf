# EfficientNet-Lite0, pretrained, and the demo's decoder on pasted cut-outs. For the weights:
# python tools/get_weights.py
_base_ = [
    '../_base_/models/deqdet_lite0.py', '../_base_/datasets/pasted.py',
    '../_base_/schedules/schedule_digits.py', '../_base_/default_runtime.py'
]

decoder_layer = _base_.decoder_layer
decoder_layer.update(num_classes=3)  # the number of classes of metainfo
model = dict(
    rpn_head=dict(num_proposals=20),  # a picture has at most 8 objects
    roi_head=dict(
        perturb_position_intensity=10,  # 3 % of the side of a picture, as for COCO
        bbox_head=[decoder_layer, decoder_layer]))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.lite_parameters))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
