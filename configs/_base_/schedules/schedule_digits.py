# 8 epochs on the digits, from scratch.
train_cfg = dict(type='ResumableTrainLoop', max_epochs=8, val_interval=8)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=80),
    dict(type='CosineAnnealingLR', T_max=8, begin=0, end=8, by_epoch=True,
         convert_to_iter_based=True)
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=9e-4, weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=1.0, norm_type=2))
randomness = dict(seed=0)
