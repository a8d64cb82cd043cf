# A DEQDet on the demo's data that learns faster: queries start at region proposals, an object is matched to
# all queries that overlap it, and sampling starts at finer levels. The demo has the published form.
_base_ = ['./deqdet_digits.py', '../_base_/models/region_queries.py']

queries = 20  # a picture has at most 4 digits
decoder_layer = _base_.decoder_layer
decoder_layer.update(start_scale=-3)
model = dict(
    neck=dict(_delete_=True, in_channels=[32, 64, 128, 256], **_base_.pyramid),
    rpn_head=dict(
        _delete_=True,
        num_proposals=queries,
        # Digits are 20 to 40 pixels large, and higher than wide.
        anchor_generator=dict(
            type='AnchorGenerator', scales=[3, 4, 5], ratios=[1.0, 1.5, 2.0], strides=[8, 16, 32]),
        **_base_.region_queries),
    roi_head=dict(match_at='proposals', bbox_head=[decoder_layer, decoder_layer]),
    train_cfg=dict(
        rpn=dict(_delete_=True, **_base_.region_training),
        rpn_proposal=_base_.spread_proposals,
        rcnn=[_base_.matching_by_overlap]),
    test_cfg=dict(
        rpn=dict(_delete_=True, **_base_.spread_proposals),
        rcnn=dict(max_per_img=queries, nms=_base_.suppression)))
