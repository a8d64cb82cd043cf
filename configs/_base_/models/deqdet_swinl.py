# DEQDet with Swin-L, pretrained on ImageNet-22k at 384 pixels, and 300 queries.
_base_ = './deqdet_swins.py'

model = dict(
    backbone=dict(
        pretrain_img_size=384,
        embed_dims=192,
        num_heads=[6, 12, 24, 48],
        window_size=12,
        drop_path_rate=0.2,
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'
            'swin_large_patch4_window12_384_22k.pth')),
    neck=dict(in_channels=[192, 384, 768, 1536]))
