# The demo's model on cell nuclei, with masks inside the boxes, from scratch, in minutes on a CPU.
_base_ = [
    '../_base_/models/deqdet_digits.py', '../_base_/models/mask_heads_digits.py',
    '../_base_/datasets/nuclei.py', '../_base_/schedules/schedule_nuclei.py',
    '../_base_/default_runtime.py'
]

decoder_layer = _base_.decoder_layer
decoder_layer.update(num_classes=1)
mask_head = _base_.local_masks
mask_head.update(num_classes=1)
model = dict(
    data_preprocessor=dict(pad_mask=True),
    rpn_head=dict(num_proposals=20),  # a picture has at most 10 nuclei
    roi_head=dict(bbox_head=[decoder_layer, decoder_layer], mask_head=mask_head),
    test_cfg=dict(rcnn=dict(max_per_img=20)))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
