# mmdet's sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py.
_base_ = [
    '../_base_/models/sparse_rcnn_r50.py', '../_base_/datasets/coco_detection_crop.py',
    '../_base_/schedules/sparse_rcnn_3x.py', '../_base_/default_runtime.py'
]
