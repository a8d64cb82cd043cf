# The demo: a small DEQDet on handwritten digits, from scratch, in minutes on two CPU cores.
_base_ = [
    '../_base_/models/deqdet_digits.py', '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_digits.py', '../_base_/default_runtime.py'
]

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
