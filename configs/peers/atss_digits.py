# mmdet's ATSS, small, on the demo's data. Optimiser and schedule are those of the demo; ATSS is published
# with SGD.
_base_ = [
    '../_base_/models/atss_digits.py', '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_digits.py', '../_base_/default_runtime.py'
]

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
