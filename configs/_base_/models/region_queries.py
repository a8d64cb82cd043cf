# Queries that start at region proposals, and matching by overlap, for a DEQDet on a small data set. The
# settings are those of mmdet's Faster R-CNN, except where a comment says so.
proposals = dict(nms_pre=500, max_per_img=100, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
region_queries = dict(
    type='RegionQueryHead',
    bbox_coder=dict(
        type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[1.0, 1.0, 1.0, 1.0]),
    # Published: 1. But here the losses of up to nine decoder states share the features with these two.
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=10.0),
    loss_bbox=dict(type='L1Loss', loss_weight=10.0))
region_training = dict(
    assigner=dict(
        type='MaxIoUAssigner',
        pos_iou_thr=0.7,
        neg_iou_thr=0.3,
        min_pos_iou=0.3,
        match_low_quality=True,
        ignore_iof_thr=-1),
    sampler=dict(
        type='RandomSampler', num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
    allowed_border=-1,
    pos_weight=-1,
    debug=False)
# Each query whose box overlaps an object is matched to it. Duplicates are then for the suppression.
matching_by_overlap = dict(
    assigner=dict(
        type='MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.5,
        min_pos_iou=0.2,  # an object without such a query gets its best one, from this overlap on
        gt_max_assign_all=False,
        ignore_iof_thr=-1))
suppression = dict(type='nms', iou_threshold=0.5)
