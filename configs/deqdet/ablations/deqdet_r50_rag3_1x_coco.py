# Three unrolled steps. The published models have two.
_base_ = '../deqdet_r50_1x_coco.py'

model = dict(roi_head=dict(rag=3))
