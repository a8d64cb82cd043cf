# A small Sparse R-CNN for pictures of about 96 pixels.
_base_ = './sparse_rcnn_r50.py'

model = dict(
    # The backbone of configs/deqdet/deqdet_digits.py.
    backbone=dict(
        depth=18, base_channels=32, stem_channels=32, frozen_stages=-1, norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(num_proposals=12, proposal_feature_channel=64),
    roi_head=dict(
        proposal_feature_channel=64,
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(
            num_classes=10,
            num_reg_fcs=1,
            feedforward_channels=256,
            in_channels=64,
            dynamic_conv_cfg=dict(in_channels=64, feat_channels=16, out_channels=64))),
    test_cfg=dict(rcnn=dict(max_per_img=20)))
