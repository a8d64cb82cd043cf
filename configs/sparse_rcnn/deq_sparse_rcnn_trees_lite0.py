# Two heads instead of six. The images are small, so the noise is small too.
_base_ = './sparse_rcnn_trees_lite0.py'

model = dict(
    roi_head=dict(
        type='DEQ_SparseRoIHead',
        perturb_position_intensity=4,
        # With such small images, memory does not matter.
        grad_accumulation=False))
