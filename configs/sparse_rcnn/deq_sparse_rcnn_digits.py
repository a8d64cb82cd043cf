# Two heads instead of six; the images are small, and so is the noise.
_base_ = './sparse_rcnn_digits.py'

model = dict(
    roi_head=dict(
        type='DEQ_SparseRoIHead',
        perturb_position_intensity=4,
        # Memory is no matter with such small images.
        grad_accumulation=False))
