# ResNeXt-50 32x4d: its levels have the channels of ResNet-50, so nothing but the backbone changes.
_base_ = '../deqdet/deqdet_r50_1x_coco.py'

model = dict(
    backbone=dict(
        type='ResNeXt',
        groups=32,
        base_width=4,
        init_cfg=dict(checkpoint='open-mmlab://resnext50_32x4d')))
