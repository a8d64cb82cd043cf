# The gradient without the awareness of refinement: one unrolled step, Jacobian-free backpropagation.
_base_ = '../deqdet_r50_1x_coco.py'

model = dict(roi_head=dict(rag=1))
