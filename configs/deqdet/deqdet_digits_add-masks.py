# Masks for the detector of the demo, in a minute: only the mask heads are trained. Masks do not feed back
# into the decoder, so boxes and scores stay those of the demo.
_base_ = './deqdet_digits_mask-local.py'

load_from = 'work_dirs/demo/epoch_8.pth'
model = dict(
    backbone=dict(frozen_stages=4, norm_eval=True), rpn_head=dict(frozen=True))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={
        'neck': dict(lr_mult=0.),
        'roi_head.bbox_head': dict(lr_mult=0.)
    }))
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', T_max=1, begin=0, end=1, by_epoch=True, convert_to_iter_based=True)
]
