# 20 epochs on the trees, 2480 iterations, from scratch.
_base_ = './schedule_digits.py'

train_cfg = dict(max_epochs=20, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=80),
    dict(type='CosineAnnealingLR', T_max=20, begin=0, end=20, by_epoch=True,
         convert_to_iter_based=True)
]
