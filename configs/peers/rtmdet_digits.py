# mmdet's RTMDet with the head of RTMDet-tiny, small, on the demo's data. Learning rate, weight decay and
# averages of the weights (EMA) are published. Data and length are those of the demo: no mosaic, no mixup,
# no other augmentation, so that all detectors see the same pictures.
_base_ = [
    '../_base_/models/rtmdet_digits.py', '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_digits.py', '../_base_/default_runtime.py'
]

optim_wrapper = _base_.recipe
custom_hooks = [_base_.averages]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
