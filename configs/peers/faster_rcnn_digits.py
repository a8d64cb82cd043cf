# mmdet's Faster R-CNN, small, on the demo's data. Optimiser and schedule are those of the demo: from
# scratch, after one epoch, AdamW was better than SGD with the published rate of 0.02 (measured with Mask
# R-CNN).
_base_ = [
    '../_base_/models/faster_rcnn_digits.py', '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_digits.py', '../_base_/default_runtime.py'
]

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
