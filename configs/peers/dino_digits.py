# mmdet's DINO, small, on the demo's data. Learning rate, weight decay and gradient norm are published. The
# backbone learns as fast as the rest, because it starts from scratch. Data and schedule are those of the
# demo.
_base_ = [
    '../_base_/models/dino_digits.py', '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_digits.py', '../_base_/default_runtime.py'
]

optim_wrapper = _base_.recipe
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
