# Masks inside the boxes, after QueryInst.
_base_ = ['./deqdet_r50_2x_coco.py', '../_base_/models/mask_heads.py']

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(with_mask=True)
model = dict(data_preprocessor=dict(pad_mask=True), roi_head=dict(mask_head=_base_.local_masks))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
