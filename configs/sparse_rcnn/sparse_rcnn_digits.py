# A small Sparse R-CNN on handwritten digits, from scratch.
_base_ = [
    '../_base_/models/sparse_rcnn_digits.py', '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_digits.py', '../_base_/default_runtime.py'
]

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
