# EfficientNet-Lite0, pretrained on ImageNet, and the decoder of the digits' model: for small data sets of
# photographs. Get the weights first: python tools/get_weights.py
_base_ = './deqdet_digits.py'

# For optim_wrapper.paramwise_cfg.custom_keys: pretrained layers learn ten times slower than the others.
lite_parameters = dict(backbone=dict(lr_mult=0.1))

model = dict(
    # The weights were trained on RGB images with this mean and std.
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        frozen_stages=3,  # all layers up to stride 4
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/efficientnet_lite0.pth')),
    neck=dict(in_channels=[24, 40, 112, 320]))
