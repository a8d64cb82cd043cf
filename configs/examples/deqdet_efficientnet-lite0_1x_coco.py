# EfficientNet-Lite0. Get its weights first: python tools/get_weights.py
_base_ = '../deqdet/deqdet_r50_1x_coco.py'

model = dict(
    # The weights were trained on RGB images with this mean and std.
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        frozen_stages=3,  # all layers up to stride 4, as with ResNet-50
        norm_eval=True,
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/efficientnet_lite0.pth')),
    neck=dict(in_channels=[24, 40, 112, 320]))
