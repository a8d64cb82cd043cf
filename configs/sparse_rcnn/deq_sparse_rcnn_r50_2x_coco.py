_base_ = [
    '../_base_/models/deq_sparse_rcnn_r50.py', '../_base_/datasets/coco_detection_crop.py',
    '../_base_/schedules/sparse_rcnn_2x.py', '../_base_/default_runtime.py'
]
