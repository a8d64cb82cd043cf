# 24 epochs with 16 images in each iteration. All parameters have the learning rate of mmdet's Sparse R-CNN.
_base_ = './schedule_2x.py'

optim_wrapper = dict(optimizer=dict(weight_decay=0.0001), paramwise_cfg=None)
