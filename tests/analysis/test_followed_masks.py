"""The masks in the pictures of a refinement are those of the predictions."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from deqdet import analysis
from deqdet.analysis import masks as followed_masks
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools.mask import area, decode
from small_model import DEMO_CONFIG, build, small_config, small_mask_head, small_sparse_config

# The network sees the images resized to 128 x 64.
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 64), keep_ratio=False),
            dict(type='PackDetInputs', meta_keys=('img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
CONFIG = Config(dict(test_dataloader=dict(dataset=dict(pipeline=PIPELINE))))
CLASSES = [str(digit) for digit in range(10)]


class Case(NamedTuple):
    """A model in float64, the setting of its number of refinements, and an image file."""

    model: Any
    steps: str
    path: str

    def follow(self, refinements=3, **settings):
        return analysis.follow_image(
            self.model, self.path, cfg=CONFIG, classes=CLASSES, refinements=refinements, **settings)

    def predict(self, refinements, monkeypatch):
        head = self.model.roi_head
        number = refinements + 1 if self.steps == 'num_stages' else refinements - 1
        _, data = analysis.read_image(CONFIG, self.path)
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(head, 'prediction', head.prediction_with(max_per_img=60, **{self.steps: number}))
            sample, = self.model.test_step(data)
        return sample.pred_instances


def trained(config):
    """A model whose boxes move, and whose scores and masks are mixed."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build(config).double().eval()
    with torch.no_grad():
        for layer in model.roi_head.bbox_head:
            layer.fc_reg.weight.normal_(std=0.05)
            layer.fc_cls.weight.normal_(std=0.5)
    return model


@pytest.fixture(scope='module')
def models():
    """A decoder of each kind, with a mask head of each kind."""
    return dict(
        local=trained(small_config(mask_head=small_mask_head('local'))),
        levels=trained(small_config(mask_head=small_mask_head('levels'))),
        sparse=trained(small_sparse_config(mask_head=dict(type='DeCoupleHead', embed_dim=64))),
        none=trained(small_config()))


@pytest.fixture
def case(models, tmp_path):
    """Makes a case with a random image."""

    def case(kind, width=60, height=40):
        # Large spots, so that the masks are not the same everywhere.
        spots = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(spots).resize((width, height)).save(tmp_path / 'image.png')
        return Case(models[kind], 'num_stages' if kind == 'sparse' else 'refinement_steps',
                    str(tmp_path / 'image.png'))

    return case


def drawn(image, refinements, score):
    """The layer of the masks: RGBA, has shape (h, w, 4)."""
    axes = Figure().add_subplot()
    analysis.draw_boxes(axes, image, refinements, score=score, font=8)
    _, layer = axes.images
    return np.asarray(layer.get_array())


def best_of_queries(found, score):
    """Rows of the best detection of each query, the best first, by another way than that of the pictures."""
    boxes, rows = [], []
    for row in range(int((found.scores > score).sum())):
        if not any(torch.equal(found.bboxes[row], box) for box in boxes):
            boxes.append(found.bboxes[row])
            rows.append(row)
    return rows


@pytest.mark.parametrize('kind', ['local', 'levels', 'sparse'])
def test_the_drawn_masks_are_those_of_a_prediction(case, monkeypatch, kind):
    case = case(kind)
    image = case.follow()
    areas = []
    for k in (1, 3):
        expected = case.predict(k, monkeypatch)
        score = float(expected.scores[len(expected) // 2])
        rows = best_of_queries(expected, score)
        masks = expected.masks[rows].numpy()
        layer = drawn(image, k, score)
        assert layer.shape[:2] == masks.shape[1:] == (40, 60) and len(rows) > 2
        np.testing.assert_array_equal(layer[..., 3] > 0.4, masks.any(0))  # those of dashed boxes are faint
        # The best lies on top, in one colour; the colours of the others are different.
        colours = {tuple(colour) for colour in layer[masks[0]][:, :3]}
        assert len(colours) == 1
        others = {tuple(colour) for colour in layer[masks.any(0) & ~masks[0]][:, :3]}
        assert others and not colours & others
        areas.append(masks.mean())
    assert all(0.02 < share < 0.98 for share in areas) and areas[0] != areas[1]


@pytest.mark.parametrize('kind', ['local', 'levels', 'sparse'])
def test_before_any_refinement_masks_are_those_of_the_first_head(case, kind):
    case = case(kind)
    image, head = case.follow(1), case.model.roi_head
    queries, labels = image.detections[0].queries[:6], image.detections[0].labels[:6]
    expected = head.mask_head_of(0).predict(
        image.masks.features, image.masks.contents[0][queries], image.masks.boxes[0][queries], labels,
        image.masks.meta, rescale=True, threshold=0.5)[0]
    assert torch.equal(image.masks.compute(0, image.detections[0][:6]), expected)
    other = head.mask_head_of(1).predict(
        image.masks.features, image.masks.contents[0][queries], image.masks.boxes[0][queries], labels,
        image.masks.meta, rescale=True, threshold=0.5)[0]
    assert not torch.equal(other, expected)
    # The boxes behind the masks are the drawn ones.
    scale = torch.tensor([128 / 60, 64 / 40] * 2, dtype=torch.float64)
    torch.testing.assert_close(image.masks.boxes[0][queries] / scale, image.detections[0].bboxes[:6])


@pytest.mark.parametrize('kind', ['local', 'levels'])
def test_masks_of_large_pictures_are_drawn_smaller(case, kind):
    image = case(kind, 1500, 1000).follow(1)
    layer = drawn(image, 1, 0.0)
    assert layer.shape == (533, 800, 4)
    best = image.detections[1][:3]
    small = image.masks.compute(1, best, (100, 150)).float()
    full = torch.nn.functional.avg_pool2d(image.masks.compute(1, best).float(), 10)
    assert 0.01 < full.mean() < 0.99 and (small - full).abs().mean() < 0.1 * full.mean()


def test_run_lengths_in_blocks(case, monkeypatch):
    image = case('local').follow(1)
    found = image.detections[1][:7]
    expected = image.masks.compute(1, found)
    monkeypatch.setattr(followed_masks, '_BLOCK', 3 * 40 * 60)
    encoded = image.masks.encode(1, found)
    assert [each['size'] for each in encoded] == [[40, 60]] * 7
    np.testing.assert_array_equal([decode(each) for each in encoded], expected)
    assert sum(area(encoded)) == expected.sum() > 0
    assert image.masks.encode(1, found[:0]) == []


def test_nothing_is_drawn_without_masks(case):
    for image in (case('none').follow(1), case('local').follow(1, masks=False)):
        axes = Figure().add_subplot()
        analysis.draw_boxes(axes, image, 1, score=0.0, font=8)
        assert image.masks is None and len(axes.images) == 1
    assert not drawn(case('local').follow(1), 1, 1.0).any()  # no box has such a score


def test_the_mask_of_a_dashed_box_is_faint(case):
    image = case('local').follow()
    image.detections[-1].scores[0] = 2.0  # the other scores are at most 1
    best = image.detections[-1].queries[0]
    for k, alpha in ((0, 0.22), (2, 0.22), (3, 0.45)):
        of_query = image.detections[k][image.detections[k].queries == best]
        mask = image.masks.compute(k, of_query[:1])[0].numpy()
        np.testing.assert_allclose(drawn(image, k, 1.0)[..., 3], alpha * mask, rtol=1e-6)
        assert mask.any()


def test_settings_that_are_left_out(models):
    head = models['local'].roi_head
    assert analysis.left_out(head.prediction) == []
    nms, scores = analysis.left_out(head.prediction_with(nms=dict(iou_threshold=0.5), mask_scores=True))
    assert nms.startswith('test_cfg.rcnn.nms ') and scores.startswith('test_cfg.rcnn.mask_scores ')


def test_the_tool(call, tmp_path, case):
    """With --no-masks only the masks are missing."""
    config = tmp_path / 'masks.py'
    model = small_config(mask_head=small_mask_head('levels')).to_dict()
    config.write_text(f'_base_ = {str(DEMO_CONFIG)!r}\nmodel = {dict(_delete_=True, **model)!r}\n'
                      f'test_dataloader = dict(dataset=dict(pipeline={PIPELINE!r}))\n')
    given = case('levels')
    torch.save(dict(state_dict=given.model.float().state_dict(), meta={}), tmp_path / 'model.pth')
    given.model.double()
    strips = []
    for words in ([], ['--no-masks']):
        out = tmp_path / f'out{len(words)}'
        call('analysis/refinement.py', config, tmp_path / 'model.pth', given.path, '--refinements', 1,
             '--strip', 1, '--score', 0.01, '--out', out, *words)
        with Image.open(out / 'refinement_image_strip.png') as strip:
            strips.append(np.asarray(strip.convert('RGB')).astype(int))
    assert strips[0].shape == strips[1].shape
    assert 0.01 < (np.abs(strips[0] - strips[1]).max(-1) > 10).mean() < 0.95
