# Tree crowns in aerial photographs, made by tools/dataset/make_trees.py in the form of the digits.
_base_ = './digits.py'

data_root = 'data/trees/'
metainfo = dict(classes=('tree', ))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    # Seen from above, trees have no upper side.
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    # Crowns of other sizes, at other places. Training tiles have 240 pixels, the others 160.
    dict(type='RandomResize', scale=(240, 240), ratio_range=(0.75, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(160, 160), allow_negative_crop=True, bbox_clip_border=False),
    dict(type='RemoveCutObjects', min_visible=0.4),  # as the tiles themselves
    # Another hour and haze. PhotoMetricDistortion would also swap the colours, which tell trees from soil.
    dict(type='YOLOXHSVRandomAug'),
    dict(type='PackDetInputs')
]
train_dataloader = dict(
    batch_size=3,  # of each process; tools/trees.sh uses two
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline))
# `tune` chooses settings; `test` is another place. A third one: annotations/shift.json and shift/.
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/tune.json',
        data_prefix=dict(img='tune/')))
test_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/test.json',
        data_prefix=dict(img='test/')))

val_evaluator = dict(ann_file=data_root + 'annotations/tune.json')
test_evaluator = dict(ann_file=data_root + 'annotations/test.json')
