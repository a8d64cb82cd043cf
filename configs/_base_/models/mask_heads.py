# Mask heads for decoders of width 256: local after QueryInst, global after Mask2Former. Inherit from this
# file and from a detector, and choose one: model = dict(roi_head=dict(mask_head=_base_.local_masks)).
local_masks = dict(
    type='WarpedEfficientDynamicMaskHead',
    num_convs=4,
    roi_feat_size=14,
    in_channels=256,
    conv_kernel_size=3,
    conv_out_channels=256,
    num_classes=80,
    class_agnostic=False,
    norm_cfg=dict(type='BN'),
    upsample_cfg=dict(type='deconv', scale_factor=2),
    mask_roi_extractor=dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2),
        out_channels=256,
        featmap_strides=[4, 8, 16, 32]),
    dynamic_conv_cfg=dict(
        type='DynamicConv',
        in_channels=256,
        feat_channels=64,
        out_channels=256,
        input_feat_shape=14,
        with_proj=False,
        act_cfg=dict(type='ReLU', inplace=True),
        norm_cfg=dict(type='LN')),
    loss_dice=dict(type='DiceLoss', loss_weight=8.0, use_sigmoid=True, activate=False, eps=1e-5))
global_masks = dict(
    type='DeCoupleMLVLEHead',
    embed_dim=256,
    mlvl=4,
    # Small weights: logits far from 0 would drown the other losses at the start.
    init_cfg=dict(type='Normal', layer='Linear', std=0.0025),
    loss_mask=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=20.0),
    loss_dice=dict(type='DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, loss_weight=1.0))
