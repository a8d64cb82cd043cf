# mmdet's DINO for pictures of about 96 pixels: dino-4scale_r50_8xb2-12e_coco.py with the levels, layers,
# width and number of queries of Deformable DETR on these pictures. The differences to Deformable DETR are
# published.
_base_ = './deformable_detr_digits.py'

feedforward = dict(feedforward_channels=8 * _base_.width, ffn_drop=0.0)
model = dict(
    type='DINO',
    as_two_stage=True,
    encoder=dict(layer_cfg=dict(self_attn_cfg=dict(dropout=0.0), ffn_cfg=feedforward)),
    decoder=dict(
        layer_cfg=dict(
            self_attn_cfg=dict(dropout=0.0), cross_attn_cfg=dict(dropout=0.0), ffn_cfg=feedforward)),
    positional_encoding=dict(offset=0.0, temperature=20),
    bbox_head=dict(type='DINOHead', loss_cls=dict(loss_weight=1.0)),
    dn_cfg=dict(
        label_noise_scale=0.5,
        box_noise_scale=1.0,
        # Published: 100, beside 900 other queries. With 100 the decoder takes most of the time.
        group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=30)))

# For optim_wrapper: the published recipe.
recipe = dict(optimizer=dict(lr=0.0001))
