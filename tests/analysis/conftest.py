"""A small detector with data and a checkpoint, for the analysis tools."""

import subprocess
import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS, DefaultScope
from small_model import DEMO_CONFIG, ROOT

# The demo's detector, made small. With random weights its AP would be 0 everywhere.
CONFIG = '''
_base_ = {base!r}
layer = {{**_base_.decoder_layer, 'in_points': 4, 'out_points': 8}}
model = dict(
    backbone=dict(base_channels=4, stem_channels=4),
    neck=dict(in_channels=[4, 8, 16, 32]),
    roi_head=dict(bbox_head=[layer, layer]))
train_dataloader = dict(batch_size=2, dataset=dict(data_root={data!r}))
val_dataloader = dict(dataset=dict(data_root={data!r}))
val_evaluator = dict(ann_file={data!r} + 'annotations/val.json')
test_dataloader = dict(batch_size=2, dataset=dict(data_root={data!r}))
test_evaluator = dict(_delete_=True, type='MeanDetection')
'''


@METRICS.register_module()
class MeanDetection(BaseMetric):
    """Means over all detections. Different sets of detections have different means."""

    default_prefix = 'detection'

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            found = sample['pred_instances']
            self.results.append((found['scores'].mean().item(), found['bboxes'].mean().item()))

    def compute_metrics(self, results):
        scores, boxes = zip(*results)
        return dict(score=sum(scores) / len(scores), box=sum(boxes) / len(boxes))


@METRICS.register_module()
class MeanMask(BaseMetric):
    """Share of the image's pixels in a mask, mean over all masks."""

    default_prefix = 'detection'

    def process(self, data_batch, data_samples):
        self.results += [sample['pred_instances']['masks'].float().mean().item() for sample in data_samples]

    def compute_metrics(self, results):
        return dict(area=sum(results) / len(results))


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """Few images, a config and a checkpoint."""
    folder = tmp_path_factory.mktemp('analysis')
    subprocess.run([sys.executable, str(ROOT / 'tools/dataset/make_digits.py'), str(folder / 'data'),
                    '--train', '4', '--val', '5', '--test', '5'], check=True)
    (folder / 'small.py').write_text(CONFIG.format(base=str(DEMO_CONFIG), data=f'{folder}/data/'))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config.fromfile(str(folder / 'small.py')).model)
        model.init_weights()
    with torch.no_grad():  # a new layer does not move boxes
        for layer in model.roi_head.bbox_head:
            layer.fc_reg.weight.normal_(std=0.05)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'model.pth')
    return folder
