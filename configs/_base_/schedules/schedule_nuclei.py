# 16 epochs on the nuclei, 560 iterations, from scratch.
_base_ = './schedule_digits.py'

train_cfg = dict(max_epochs=16, val_interval=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=80),
    dict(type='CosineAnnealingLR', T_max=16, begin=0, end=16, by_epoch=True,
         convert_to_iter_based=True)
]
