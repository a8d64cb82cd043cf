# 300 detections for each image, as with 300 queries.
_base_ = './deqdet_swinl_1x_coco.py'

model = dict(rpn_head=dict(num_proposals=900))
