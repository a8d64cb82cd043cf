# The backbone of configs/deqdet/deqdet_digits.py, for other detectors: ResNet-18 of half width, from scratch.
_base_ = './set_prediction_r50.py'

model = dict(
    backbone=dict(
        depth=18, base_channels=32, stem_channels=32, frozen_stages=-1, norm_eval=False,
        init_cfg=None))
backbone_channels = [32, 64, 128, 256]  # of strides 4, 8, 16 and 32
width = 64  # of the neck and the heads, as in DEQDet on these pictures; mmdet's configs have 256
