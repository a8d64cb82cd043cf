"""A data set of a few images in COCO's format, and a detector with a few thousand weights."""

import json
from pathlib import Path
from typing import Optional, Sequence

import cv2
import numpy as np

SIZE = 64

CONFIG = '''
default_scope = 'mmdet'
classes = {classes!r}
pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
]
test_pipeline = [pipeline[0], dict(type='Resize', scale=(64, 64)), *pipeline[1:]]
data = dict(type='CocoDataset', data_root={root!r}, ann_file='annotations.json',
            data_prefix=dict(img='images/'), metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline=pipeline, filter_cfg=dict(filter_empty_gt=True), **data))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(pipeline=test_pipeline, test_mode=True, **data))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file={root!r} + '/annotations.json', metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001),
                     clip_grad=dict(max_norm=1.0))
auto_scale_lr = dict(enable=False, base_batch_size=4)
default_hooks = dict(logger=dict(type='LoggerHook', interval=1),
                     visualization=dict(type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
randomness = dict(seed=0)
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[0.] * 3, std=[255.] * 3,
                           pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4, num_stages=4,
                  out_indices=(2, 3), norm_eval=False,
                  init_cfg=dict(type='Pretrained', checkpoint='/nowhere/resnet.pth')),
    neck=dict(type='FPN', in_channels=[16, 32], out_channels=8, num_outs=2),
    bbox_head=dict(type='RetinaHead', num_classes={num_classes}, in_channels=8, feat_channels=8,
                   stacked_convs=1,
                   anchor_generator=dict(type='AnchorGenerator', scales=[2], ratios=[1.0],
                                         strides=[16, 32])),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4,
                                 min_pos_iou=0, ignore_iof_thr=-1),
                   allowed_border=-1, pos_weight=-1),
    test_cfg=dict(nms_pre=50, min_bbox_size=0, score_thr=0.0,
                  nms=dict(type='nms', iou_threshold=0.5), max_per_img=5))
'''

NO_PRETRAINED = 'model.backbone.init_cfg=None'


def annotation(number: int, image: int, box: Sequence[float], category: int = 1, **extra) -> dict:
    """One annotation; box is (x, y, w, h)."""
    return dict(id=number, image_id=image, bbox=list(box), area=abs(box[2] * box[3]) or 1.,
                category_id=category, iscrowd=0, **extra)


def write_annotations(path: Path, annotations: Sequence[dict], *,
                      names: Sequence[str] = ('fig', 'kiwi'), images: int = 4) -> Path:
    """An annotation file for images of 64 x 64."""
    path.write_text(json.dumps(dict(
        images=[dict(id=number, file_name=f'{number}.png', width=SIZE, height=SIZE)
                for number in range(images)],
        annotations=list(annotations),
        categories=[dict(id=number + 1, name=name) for number, name in enumerate(names)])))
    return path


def write_dataset(root: Path, *, names: Sequence[str] = ('fig', 'kiwi'), images: int = 4) -> Path:
    """Images with one bright square each, and their annotations."""
    (root / 'images').mkdir(parents=True)
    rng = np.random.RandomState(0)
    annotations = []
    for number in range(images):
        picture = rng.randint(0, 60, (SIZE, SIZE, 3)).astype(np.uint8)
        x, y = rng.randint(0, SIZE - 24, 2).tolist()
        picture[y:y + 24, x:x + 24] = 200
        cv2.imwrite(str(root / 'images' / f'{number}.png'), picture)
        annotations.append(annotation(number + 1, number, (x, y, 24, 24), number % 2 + 1))
    write_annotations(root / 'annotations.json', annotations, names=names, images=images)
    return root


def write_config(path: Path, root: Path, *, classes: Sequence[str] = ('fig', 'kiwi'),
                 num_classes: Optional[int] = None) -> Path:
    """A config of the detector on a data set."""
    path.write_text(CONFIG.format(root=str(root), classes=tuple(classes),
                                  num_classes=num_classes or len(classes)))
    return path
