# 10 epochs on the trees, 1240 iterations.
_base_ = './schedule_digits.py'

train_cfg = dict(max_epochs=10, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=80),
    dict(type='CosineAnnealingLR', T_max=10, begin=0, end=10, by_epoch=True,
         convert_to_iter_based=True)
]
