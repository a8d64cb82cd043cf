# EfficientNet-Lite0, pretrained on ImageNet, and the decoder of the digits' model: for small data sets of
# photographs. Get the weights first: python tools/get_weights.py
_base_ = ['./deqdet_digits.py', './lite0_backbone.py']

model = dict(
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(_delete_=True, **_base_.lite_backbone),
    neck=dict(in_channels=_base_.lite_channels))
