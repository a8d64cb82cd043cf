_base_ = [
    '../_base_/models/deqdet_r50.py', '../_base_/datasets/coco_detection_crop.py',
    '../_base_/schedules/schedule_2x.py', '../_base_/default_runtime.py'
]

model = dict(rpn_head=dict(num_proposals=300), test_cfg=dict(rcnn=dict(max_per_img=300)))
