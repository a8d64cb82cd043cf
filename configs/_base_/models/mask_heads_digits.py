# The mask heads at the width of the small models, 64.
_base_ = './mask_heads.py'

local_masks = dict(
    in_channels=64,
    conv_out_channels=64,
    num_convs=2,
    num_classes=10,
    mask_roi_extractor=dict(out_channels=64),
    dynamic_conv_cfg=dict(in_channels=64, feat_channels=16, out_channels=64))
# With `position`, the narrow contents need not tell where an object is.
global_masks = dict(embed_dim=64, position=True, init_cfg=dict(std=0.01))
