# Half as many steps of the solving path in training, also supervised at its end. Prediction is unchanged.
_base_ = '../deqdet_r50_1x_coco.py'

model = dict(
    roi_head=dict(refinement_steps=10, supervision_position=[1, 3, 6, 9, 10]),
    test_cfg=dict(rcnn=dict(refinement_steps=20)))
