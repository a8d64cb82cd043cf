# The digits with masks inside the boxes.
_base_ = [
    './deqdet_digits.py', '../_base_/models/mask_heads.py', '../_base_/datasets/digits_masks.py'
]

mask_head = _base_.local_masks
mask_head.update(in_channels=64, conv_out_channels=64, num_convs=2, num_classes=10)
mask_head.mask_roi_extractor.update(out_channels=64)
mask_head.dynamic_conv_cfg.update(in_channels=64, feat_channels=16, out_channels=64)
model = dict(data_preprocessor=dict(pad_mask=True), roi_head=dict(mask_head=mask_head))

train_dataloader = dict(dataset=dict(pipeline=_base_.mask_train_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
