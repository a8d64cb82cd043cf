# DEQDet with ResNet-50, 100 queries and the hyper-parameters of the paper's Table 1 (supplement). As in the
# released models, both decoder layers have 64 sampling points.
_base_ = './set_prediction_r50.py'

decoder_layer = dict(
    type='AdaMixerHead',
    num_classes=80,
    num_ffn_fcs=2,
    num_heads=8,
    num_cls_fcs=1,
    num_reg_fcs=1,
    feedforward_channels=2048,
    content_dim=256,
    feat_channels=256,
    dropout=0.0,
    in_points=64,
    out_points=128,
    n_groups=4,
    ffn_act_cfg=dict(type='ReLU', inplace=True),
    **_base_.losses)

model = dict(
    type='DEQDet',
    neck=dict(
        type='ChannelMapperWithGN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        num_outs=4),
    rpn_head=dict(
        type='FixPositionEmbeddingRPNHead', num_proposals=100, proposal_feature_channel=256),
    roi_head=dict(
        type='DEQDetRoIHead',
        featmap_strides=[4, 8, 16, 32],
        refinement_steps=20,
        supervision_position=[1, 3, 6, 9, 12, 20],
        rag=2,
        extra_supervisions_on_init_head=2,
        perturb_content_prob=0.2,
        perturb_position_prob=0.2,
        perturb_content_intensity=0.1,
        perturb_position_intensity=25,
        bbox_head=[decoder_layer, decoder_layer]),
    train_cfg=dict(rpn=None, rcnn=[_base_.matching]),
    test_cfg=dict(rpn=None, rcnn=dict(max_per_img=100)))
