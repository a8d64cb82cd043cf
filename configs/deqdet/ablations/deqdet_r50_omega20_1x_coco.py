# Supervised only at the end of the solving path.
_base_ = '../deqdet_r50_1x_coco.py'

model = dict(roi_head=dict(supervision_position=[20]))
