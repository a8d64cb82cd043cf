# EfficientNet-Lite0, pretrained on ImageNet, as settings for a detector with any backbone. Get the weights
# first: python tools/get_weights.py
lite_preprocessor = dict(  # the weights were trained on RGB images with this mean and std
    mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], bgr_to_rgb=True)
lite_backbone = dict(
    type='EfficientNetLite',
    frozen_stages=3,  # all layers up to stride 4
    norm_eval=True,
    init_cfg=dict(type='Pretrained', checkpoint='data/weights/efficientnet_lite0.pth'))
lite_channels = [24, 40, 112, 320]  # of strides 4, 8, 16 and 32

# For optim_wrapper.paramwise_cfg.custom_keys: pretrained layers learn ten times slower than the others.
lite_parameters = dict(backbone=dict(lr_mult=0.1))
