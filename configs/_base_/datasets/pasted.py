# Cut-outs on photographs, made by tools/dataset/make_pasted.py in the form of the digits. Set the classes to
# the folders of your cut-outs, in the order that the command prints.
_base_ = './digits.py'

data_root = 'data/pasted/'
metainfo = dict(classes=('animals', 'food', 'plants'))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    # Another light and another camera. It comes first: OpenCV cannot write into a flipped view.
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline))
# `tune` chooses settings; `test` has other cut-outs and backgrounds.
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
