# A wider decoder; the features it samples keep 256 channels.
_base_ = './deqdet_swinl_1x_coco.py'

layer = {**_base_.decoder_layer, 'content_dim': 512}
model = dict(
    rpn_head=dict(proposal_feature_channel=512), roi_head=dict(bbox_head=[layer, layer]))
