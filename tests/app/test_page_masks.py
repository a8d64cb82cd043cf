"""Masks on the page: they follow the slider, and the downloads have those of the predictions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from deqdet import app
from deqdet.app.visit import Settings, show
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools.coco import COCO
from small_model import build, small_config, small_mask_head

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale_factor=2.0),
            dict(type='PackDetInputs', meta_keys=('img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
SETTINGS = Settings(solver='iterate', refinements=1, score=0.05, stops=False, content=0.05, position=0.5)


@pytest.fixture(scope='module', params=['local', 'levels'])
def playground(request):
    """A model in float64 whose boxes move, with mixed scores and masks; three refinements."""
    config = small_config(mask_head=small_mask_head(request.param))
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build(config).double().eval()
    with torch.no_grad():
        for layer in model.roi_head.bbox_head:
            layer.fc_reg.weight.normal_(std=0.05)
            layer.fc_cls.weight.normal_(std=0.5)
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=PIPELINE))))
    return app.Playground(model, cfg, [str(digit) for digit in range(10)], refinements=3)


def read(path):
    return json.loads(Path(path).read_text())


def test_the_downloaded_masks_are_those_of_a_prediction(playground, image, tmp_path, predicted):
    path = image()
    solution = playground.solve(path, 'iterate')
    found = {}
    for k in (1, 3):
        app.write_results(tmp_path / 'results.json', solution, k, 0.05)
        expected = predicted(playground, path, 0.05, refinement_steps=k - 1)
        coco = COCO(str(tmp_path / 'results.json'))
        assert len(coco.anns) == len(expected) > 2
        found[k] = np.stack([coco.annToMask(each) for each in coco.dataset['annotations']])
        np.testing.assert_array_equal(found[k], expected.masks)
        assert [each['area'] for each in coco.dataset['annotations']] == found[k].sum((1, 2)).tolist()
        assert len(coco.loadRes(coco.dataset['annotations']).anns) == len(expected)
    assert 0.01 < found[3].mean() < 0.99 and not np.array_equal(found[1][0], found[3][0])


def test_the_slider_moves_masks(playground, image, tmp_path, monkeypatch):
    first = show(playground, tmp_path, None, image(), SETTINGS)
    moved = show(playground, tmp_path, first.visit, image(), SETTINGS._replace(refinements=3))
    assert moved.visit.solutions['iterate'] is first.visit.solutions['iterate']
    before, after = (np.asarray(Image.open(each.files.picture).convert('RGB')).astype(int)
                     for each in (first, moved))
    assert (np.abs(before - after).max(-1) > 10).mean() > 0.02
    before, after = (read(each.files.results)['annotations'] for each in (first, moved))
    assert before[0]['segmentation'] != after[0]['segmentation']
    # No score is above 1: no masks to draw or to write.
    monkeypatch.setattr('deqdet.app.visit.MOST_SCORE', 1.0)
    empty = show(playground, tmp_path, moved.visit, image(), SETTINGS._replace(score=1.0))
    assert '**1 refinement: 0 detections**' in empty.status
    assert read(empty.files.results)['annotations'] == []


def test_the_page_knows_whether_there_are_masks(playground):
    assert playground.masks
    with DefaultScope.overwrite_default_scope('mmdet'):
        other = app.Playground(build(small_config()), playground.cfg, playground.classes, refinements=3)
    assert not other.masks
