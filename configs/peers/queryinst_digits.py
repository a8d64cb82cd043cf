# mmdet's QueryInst, small, on the demo's data: Sparse R-CNN with a mask head in each stage. Schedule and
# learning rate are those of the demo, which trains from scratch; weight decay and gradient norm are those of
# QueryInst. The mask heads have the size of those in deqdet_digits_mask-local.py.
_base_ = ['../sparse_rcnn/sparse_rcnn_digits.py', '../_base_/models/mask_heads_digits.py']

mask_head = _base_.local_masks
mask_head.update(type='DynamicMaskHead')
model = dict(
    type='QueryInst',
    data_preprocessor=dict(pad_mask=True),
    # mmdet's decoder with masks needs as many detections as proposals.
    rpn_head=dict(num_proposals=20),
    roi_head=dict(
        # On a CPU, mmdet cannot draw a mask whose box is outside the picture.
        bbox_head=dict(bbox_coder=dict(clip_border=True)),
        # In mmdet the RoI extractor is a part of the decoder, and the loss has another name.
        mask_roi_extractor=mask_head.pop('mask_roi_extractor'),
        mask_head=dict(loss_mask=mask_head.pop('loss_dice'), **mask_head)),
    train_cfg=dict(rcnn=[dict(**_base_.matching, mask_size=28)] * _base_.num_stages),
    test_cfg=dict(rcnn=dict(max_per_img=20, mask_thr_binary=0.5)))

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(with_mask=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(weight_decay=0.0001), clip_grad=dict(max_norm=0.1))
