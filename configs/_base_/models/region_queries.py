# For a small DEQDet on a small data set: queries start at region proposals, and an object is matched to all
# queries that overlap it.
_base_ = './region_proposals.py'

pyramid = dict(type='FPN', out_channels=64, num_outs=4, norm_cfg=dict(type='GN', num_groups=16))
region_queries = dict(
    type='RegionQueryHead',
    proposal_feature_channel=64,
    in_channels=64,
    feat_channels=64,
    bbox_coder=_base_.region_coder,
    # Published: 1. But here the losses of up to nine decoder states share the features with these two.
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=10.0),
    loss_bbox=dict(type='L1Loss', loss_weight=10.0))
# They overlap less, so the same number of queries covers more places.
spread_proposals = dict(_base_.proposals, nms=dict(type='nms', iou_threshold=0.5))
# Several queries may find the same object; the suppression keeps the best one.
matching_by_overlap = dict(
    assigner=dict(
        type='MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.5,
        min_pos_iou=0.2,  # an object without such a query gets its best one, from this overlap on
        gt_max_assign_all=False,
        ignore_iof_thr=-1))
suppression = dict(type='nms', iou_threshold=0.5)
