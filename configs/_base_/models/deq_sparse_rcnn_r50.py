# Sparse R-CNN whose second stage is solved to its fixed point (paper, supplement, Table 2). The number of
# stages is not published. Here it is 20, as DEQDet's steps.
_base_ = './sparse_rcnn_r50.py'

model = dict(
    roi_head=dict(
        type='DEQ_SparseRoIHead',
        num_stages=20,
        stage_loss_weights=[1] * 20,
        perturb_content_prob=0.2,
        perturb_position_prob=0.2,
        perturb_content_intensity=0.1,
        perturb_position_intensity=25))
