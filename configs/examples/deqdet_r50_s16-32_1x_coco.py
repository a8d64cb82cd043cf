# A pyramid of two levels, strides 16 and 32: for large objects, or for little memory.
_base_ = '../deqdet/deqdet_r50_1x_coco.py'

model = dict(
    backbone=dict(out_indices=(2, 3)),
    neck=dict(in_channels=[1024, 2048], num_outs=2),
    roi_head=dict(featmap_strides=[16, 32]))
