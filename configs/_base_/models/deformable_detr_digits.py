# mmdet's Deformable DETR with box refinement for pictures of about 96 pixels:
# deformable-detr-refine_r50_16xb2-50e_coco.py with another width, other levels and fewer queries.
_base_ = './resnet18_digits.py'

width = _base_.width
layers = 3  # published: 6. On a CPU a step with six takes 1.7 times as long, and DETRs need many epochs.
levels = 3  # strides 8, 16 and 32; published: also 64, of which a picture has one to four cells
# Four times the width, as published. DINO has another rate of dropout.
feedforward = dict(embed_dims=width, feedforward_channels=4 * width, ffn_drop=0.1)
attention = dict(embed_dims=width, num_levels=levels, batch_first=True)
model = dict(
    type='DeformableDETR',
    # Published: 300. The reference points of 50 queries are 14 pixels apart, half of a digit.
    num_queries=50,
    num_feature_levels=levels,
    with_box_refine=True,
    as_two_stage=False,
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(
        type='ChannelMapper',
        in_channels=_base_.backbone_channels[1:],
        kernel_size=1,
        out_channels=width,
        act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=32),
        num_outs=levels),
    encoder=dict(num_layers=layers, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=feedforward)),
    decoder=dict(
        num_layers=layers,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=width, num_heads=8, dropout=0.1, batch_first=True),
            cross_attn_cfg=attention,
            ffn_cfg=feedforward),
        post_norm_cfg=None),
    positional_encoding=dict(num_feats=width // 2, normalize=True, offset=-0.5),
    bbox_head=dict(
        type='DeformableDETRHead', num_classes=10, embed_dims=width, sync_cls_avg_factor=True,
        **_base_.losses),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0)
            ])),
    test_cfg=dict(max_per_img=20))

# For optim_wrapper: the published recipe.
slow_parameters = dict(sampling_offsets=dict(lr_mult=0.1), reference_points=dict(lr_mult=0.1))
recipe = dict(optimizer=dict(lr=0.0002, weight_decay=0.0001), clip_grad=dict(max_norm=0.1))
