"""Images of any kind and size: finite losses and gradients and all detections, or one error line."""

import copy

import pytest
import torch
from data.tiny_coco import annotation
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from odd_images import READABLE, UNREADABLE, write
from outcomes import line_of
from small_model import ROOT, build, small_config, total

QUERIES, MOST = 4, 20


@pytest.fixture(scope='module')
def model():
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope('mmdet'):
        config = small_config()
        config.rpn_head.num_proposals = QUERIES
        config.test_cfg.rcnn.max_per_img = MOST
        return build(config)


def pipelines(name):
    """The pipelines of a data set config, with sizes divided by eight."""
    cfg = Config.fromfile(str(ROOT / 'configs' / '_base_' / 'datasets' / f'{name}.py'))
    found = [copy.deepcopy(cfg[f'{split}_dataloader'].dataset.pipeline) for split in ('train', 'val')]
    for part in found:
        _shrink(part)
    return found


def _shrink(part):
    if isinstance(part, list):
        for each in part:
            _shrink(each)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key in ('scale', 'scales', 'crop_size'):
                part[key] = _eighth(value)
            else:
                _shrink(value)


def _eighth(value):
    return max(int(value / 8), 1) if isinstance(value, (int, float)) else type(value)(map(_eighth, value))


def record(path, size):
    """The data set's record of an image: an object in its middle, and one that fills it."""
    width, height = size
    objects = [annotation(1, 1, (width / 4, height / 4, width / 2, height / 2)),
               annotation(2, 1, (0, 0, width, height))]
    return dict(img_path=str(path), img_id=1, height=height, width=width, instances=[
        dict(bbox=[x, y, x + w, y + h], bbox_label=1, ignore_flag=0)
        for x, y, w, h in (each['bbox'] for each in objects)])


class Detector:
    """Trains a step on a batch, and predicts it."""

    def __init__(self, model):
        self.model = model

    def train(self, samples):
        batch = self.model.data_preprocessor(pseudo_collate(samples), training=True)
        self.model.zero_grad()
        total(self.model.loss(batch['inputs'], batch['data_samples'])).backward()
        gradients = [each.grad for each in self.model.parameters() if each.grad is not None]
        assert gradients and all(torch.isfinite(each).all() for each in gradients)

    def predict(self, samples):
        self.model.eval()
        with torch.no_grad():
            found = self.model.test_step(pseudo_collate(samples))
        self.model.train()
        for sample in found:
            boxes = sample.pred_instances.bboxes
            assert len(boxes) == min(MOST, QUERIES * 10)
            assert torch.isfinite(boxes).all() and (boxes[:, 2:] >= boxes[:, :2]).all()
            height, width = sample.ori_shape
            # As in the official models, boxes may reach beyond the image but always overlap it.
            assert (boxes[:, :2] < boxes.new_tensor([width, height])).all() and (boxes[:, 2:] > 0).all()


@pytest.mark.parametrize('data', ['digits', pytest.param('coco_detection_crop', marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', READABLE)
def test_every_kind_is_learnt_from_and_predicted(model, tmp_path, data, name):
    content, size = READABLE[name]
    path = write(tmp_path / name, content)
    training, testing = pipelines(data)
    detector = Detector(model)

    def use():
        detector.train([Compose(training)(record(path, size))])
        detector.predict([Compose(testing)(record(path, size))])

    line = line_of(use)
    if data != 'digits' and name in ('wide.png', 'tall.png'):
        # Resized to 166 x 0 pixels.
        assert f'fails on image {path} of {size[0]} x {size[1]} px' in line
    elif data == 'digits' and name in ('1x1.png', '2x3.png'):
        # One cell of 32 pixels is too few for a batch norm in training.
        assert '[bad-image]' in line and f'{path}: 32 x 32 px' in line
        detector.predict([Compose(testing)(record(path, size))])
    else:
        assert line is None


@pytest.mark.parametrize('name', UNREADABLE)
def test_what_cannot_be_read_is_named(tmp_path, name):
    path = write(tmp_path / name, UNREADABLE[name])
    line = line_of(lambda: Compose(pipelines('digits')[0])(record(path, (64, 48))))
    assert line.startswith(f'image {path} cannot be read') and 'annotation file' in line
    if name == 'empty.jpg':
        assert 'it is empty' in line


@pytest.mark.slow
def test_a_batch_of_very_different_sizes(model, tmp_path):
    samples = []
    for name in ('1x1.png', '2x3.png', 'strip.png', 'grey.png', 'turned.jpg', '16 bit.png'):
        content, size = READABLE[name]
        training, testing = pipelines('digits')
        samples.append([Compose(part)(record(write(tmp_path / name, content), size))
                        for part in (training, testing)])
    detector = Detector(model)
    detector.train([training for training, _ in samples])
    detector.predict([testing for _, testing in samples])
