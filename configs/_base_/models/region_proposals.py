# mmdet's region proposal network, as in Faster R-CNN. Pictures are small, so there are fewer proposals.
proposals = dict(  # published: nms_pre=2000, max_per_img=1000
    nms_pre=500,
    max_per_img=100,
    nms=dict(type='nms', iou_threshold=0.7),
    min_bbox_size=0)
region_coder = dict(
    type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[1.0, 1.0, 1.0, 1.0])
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
