# 24 epochs at 16 images an iteration; all parameters learn at the rate of mmdet's Sparse R-CNN.
_base_ = './schedule_2x.py'

optim_wrapper = dict(optimizer=dict(weight_decay=0.0001), paramwise_cfg=None)
