# CSPNeXt-tiny, the backbone of RTMDet-tiny, with one more level: strides 4 to 32.
_base_ = '../deqdet/deqdet_r50_1x_coco.py'

model = dict(
    # The weights were trained on BGR images.
    data_preprocessor=dict(
        mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], bgr_to_rgb=False),
    backbone=dict(
        _delete_=True,
        type='CSPNeXt',
        deepen_factor=0.167,
        widen_factor=0.375,
        out_indices=(1, 2, 3, 4),
        # With two images on each GPU, keep the statistics of the weights. The eps is that of the weights,
        # not CSPNeXt's default.
        norm_cfg=dict(type='BN'),
        norm_eval=True,
        # No frozen_stages: CSPNeXt freezes when training starts, after DDP has counted the parameters.
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone.',
            checkpoint='https://mmassets.onedl.ai/mmdetection/v3.0/rtmdet/cspnext_rsb_pretrain/'
            'cspnext-tiny_imagenet_600e.pth')),
    neck=dict(in_channels=[48, 96, 192, 384]))
