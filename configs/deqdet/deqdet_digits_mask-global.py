# The digits with masks from the features of the whole image.
_base_ = [
    './deqdet_digits.py', '../_base_/models/mask_heads.py', '../_base_/datasets/digits_masks.py'
]

mask_head = _base_.global_masks
# Small weights: logits far from 0 would drown the other losses in the first epochs.
mask_head.update(embed_dim=64, init_cfg=dict(type='Normal', layer='Linear', std=0.01))
model = dict(
    data_preprocessor=dict(pad_mask=True), roi_head=dict(mask_head=mask_head),
    # A picture of 96 x 96 has 9,216 pixels.
    train_cfg=dict(rcnn=[dict(**_base_.matching, num_points=1024)]))

train_dataloader = dict(dataset=dict(pipeline=_base_.mask_train_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
