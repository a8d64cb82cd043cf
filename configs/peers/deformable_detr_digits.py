# mmdet's Deformable DETR with box refinement, small, on the demo's data. Learning rate, weight decay and
# gradient norm are published. The backbone learns as fast as the rest, because it starts from scratch. Data
# and schedule are those of the demo.
_base_ = [
    '../_base_/models/deformable_detr_digits.py', '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_digits.py', '../_base_/default_runtime.py'
]

optim_wrapper = dict(**_base_.recipe, paramwise_cfg=dict(custom_keys=_base_.slow_parameters))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
