# As in the paper's Table 1 (supplement): 32 sampling points in the refinement layer, 25 refinements at
# inference (one more than refinement_steps).
_base_ = './deqdet_r50_2x_coco.py'

model = dict(
    roi_head=dict(bbox_head=[_base_.decoder_layer, {**_base_.decoder_layer, 'in_points': 32}]),
    test_cfg=dict(rcnn=dict(refinement_steps=24)))
