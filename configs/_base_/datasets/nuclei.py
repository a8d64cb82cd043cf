# Cell nuclei in a fluorescence microscope, made by tools/dataset/make_nuclei.py in the form of the digits.
_base_ = './digits.py'

data_root = 'data/nuclei/'
metainfo = dict(classes=('nucleus', ))

train_pipeline = [
    dict(type='LoadImageFromFile'),  # grey pictures become three equal channels
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    # Nuclei have no upper side.
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs')
]
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline))
# One picture gives only two sides: the same tiles choose and report.
validation = dict(
    data_root=data_root, metainfo=metainfo, ann_file='annotations/val.json', data_prefix=dict(img='val/'))
val_dataloader = dict(batch_size=4, dataset=validation)
test_dataloader = dict(batch_size=4, dataset=validation)

val_evaluator = dict(ann_file=data_root + 'annotations/val.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
