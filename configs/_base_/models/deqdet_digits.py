# A small DEQDet for pictures of about 96 pixels: ResNet-18 of half width, and a decoder of width 64.
_base_ = './deqdet_r50.py'

layer = dict(
    num_classes=10,
    content_dim=64,
    feat_channels=64,
    feedforward_channels=256,
    n_groups=2,
    in_points=16,
    out_points=32)
decoder_layer = _base_.decoder_layer
decoder_layer.update(layer)
model = dict(
    # It starts from scratch, so its norms must learn too.
    backbone=dict(
        depth=18, base_channels=32, stem_channels=32, frozen_stages=-1, norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(num_proposals=8, proposal_feature_channel=64),
    roi_head=dict(
        refinement_steps=8,
        supervision_position=[1, 3, 8],
        perturb_position_intensity=4,
        # The images are small: memory does not matter, and the number of calls costs more than their size.
        grad_accumulation=False,
        positions_per_batch=3,
        bbox_head=[decoder_layer, decoder_layer]),
    test_cfg=dict(rcnn=dict(max_per_img=20)))
