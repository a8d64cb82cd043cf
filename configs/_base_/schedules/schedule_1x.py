# 12 epochs with 16 images in each iteration.
train_cfg = dict(type='ResumableTrainLoop', max_epochs=12, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1)
]

# The decoder and its masks learn at 1e-4 with decay 0.1, everything else at 2.5e-5 with decay 0.01.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2.5e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(
            bbox_head=dict(lr_mult=4.0, decay_mult=10.0),
            mask_head=dict(lr_mult=4.0, decay_mult=10.0))),
    clip_grad=dict(max_norm=1.0, norm_type=2))

auto_scale_lr = dict(enable=False, base_batch_size=16)
