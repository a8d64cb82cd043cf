# 24 epochs on the trees: 1080 iterations with two processes.
_base_ = './schedule_digits.py'

train_cfg = dict(max_epochs=24, val_interval=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=80),
    dict(type='CosineAnnealingLR', T_max=24, begin=0, end=24, by_epoch=True,
         convert_to_iter_based=True)
]
