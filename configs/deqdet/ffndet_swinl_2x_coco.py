# 24 epochs with the images of 1x: no multi-scale training and no crops.
_base_ = [
    '../_base_/models/ffndet_swinl.py', '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_2x.py', '../_base_/default_runtime.py'
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.swin_parameters))
