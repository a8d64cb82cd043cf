# The solving path without perturbation.
_base_ = '../deqdet_r50_1x_coco.py'

model = dict(roi_head=dict(perturb_content_prob=0.0, perturb_position_prob=0.0))
