# The demo with masks from the features of the whole image.
_base_ = ['./deqdet_digits.py', '../_base_/models/mask_heads_digits.py']

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(with_mask=True)
model = dict(
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(mask_head=_base_.global_masks),
    # A picture of 96 x 96 has 9,216 pixels.
    train_cfg=dict(rcnn=[dict(**_base_.matching, num_points=1024)]))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
