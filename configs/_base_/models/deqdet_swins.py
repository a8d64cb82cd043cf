# DEQDet with Swin-S and 300 queries; the decoder is that of the R50 model.
_base_ = './deqdet_r50.py'

# More optimiser settings than in the schedules: norms and position tables of the backbone learn ten times
# slower than its other weights. Like the neck's norm, they have no weight decay. Norms of the decoder match
# bbox_head, which wins because it is the longer key.
swin_parameters = dict(
    norm=dict(lr_mult=0.1, decay_mult=0.0),
    relative_position_bias_table=dict(lr_mult=0.1, decay_mult=0.0),
    gn_out=dict(decay_mult=0.0))

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 18, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.3,
        convert_weights=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'
            'swin_small_patch4_window7_224.pth')),
    neck=dict(in_channels=[96, 192, 384, 768]),
    rpn_head=dict(num_proposals=300),
    test_cfg=dict(rcnn=dict(max_per_img=300)))
