# The gradient is not refinement-aware: one unrolled step, Jacobian-free backpropagation.
_base_ = '../deqdet_r50_1x_coco.py'

model = dict(roi_head=dict(rag=1))
