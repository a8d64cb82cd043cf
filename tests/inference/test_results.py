"""Result files, read as other tools read them."""

import csv
import json

import numpy as np
import pytest
import torch
from deqdet.inference.masks import decode_mask
from deqdet.inference.results import (
    read_annotations,
    record_of,
    sample_of,
    write_coco,
    write_coco_masks,
    write_coco_results,
    write_csv,
)
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from refusals import refused

CLASSES = ('fig', 'kiwi')


def sample(boxes, scores):
    sample = DetDataSample(metainfo=dict(ori_shape=(48, 64)))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4), scores=torch.tensor(scores),
        labels=torch.arange(len(scores)) % 2)
    return sample


def frame():
    """A square ring of 32 pixels, and nothing."""
    masks = torch.zeros(2, 48, 64, dtype=torch.bool)
    masks[0, 2:8, 1:7], masks[0, 4:6, 3:5] = True, False
    return masks


def records(masks=None, mask_scores=None, **extra):
    first = sample([[1., 2., 11., 22.], [3., 3., 5., 4.]], [0.75, 0.125])
    nothing = sample([], [])
    if masks is not None:
        first.pred_instances.masks, nothing.pred_instances.masks = masks, masks[:0]
    if mask_scores is not None:
        first.pred_instances.mask_scores = torch.tensor(mask_scores)
        nothing.pred_instances.mask_scores = torch.zeros(0)
    return [record_of(first, input='/data/images/a.png', name='a.png', **extra),
            record_of(nothing, input='/data/images/b/c.png', name='b/c.png', **extra)]


def test_a_record_is_exact():
    found = sample([[1 / 3, 0.1, 0.7, 1e-7], [float('nan'), 0., 1., 1.]], [0.1, 0.2])
    record = json.loads(json.dumps(record_of(found, input='a')))
    again = sample_of(record).pred_instances
    assert torch.equal(again.bboxes, found.pred_instances.bboxes[:1])  # boxes with NaN are dropped
    assert torch.equal(again.scores, found.pred_instances.scores[:1])
    assert (record['width'], record['height']) == (64, 48)


def test_a_record_keeps_masks():
    masks, again = frame(), records(frame(), [0.5, 0.25])[0]
    assert list(again)[-2:] == ['masks', 'mask_scores']
    assert all(isinstance(text, str) for text in again['masks'])
    drawn = sample_of(json.loads(json.dumps(again))).pred_instances.masks
    assert (np.stack([decode_mask(rle) for rle in drawn]) == masks.numpy()).all()
    assert record_of(sample_of(again))['masks'] == again['masks']


def test_a_whole_coco_file(tmp_path):
    write_coco(tmp_path / 'a.json', records, CLASSES, dict(steps=3))
    coco = COCO(str(tmp_path / 'a.json'))
    assert coco.dataset['info'] == dict(steps=3)
    assert [image['file_name'] for image in coco.loadImgs(coco.getImgIds())] == ['a.png', 'b/c.png']
    one, other = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert one['bbox'] == [1, 2, 10, 20] and one['score'] == 0.75 and one['area'] == 200
    assert [coco.cats[each['category_id']]['name'] for each in (one, other)] == ['fig', 'kiwi']
    assert coco.getAnnIds(imgIds=[2]) == []


@pytest.mark.parametrize('form', ['rle', 'polygons', 'none'])
def test_a_whole_coco_file_with_masks(tmp_path, form):
    write_coco(tmp_path / 'a.json', lambda: records(frame(), [0.5, float('nan')]), CLASSES, {}, masks=form)
    coco = COCO(str(tmp_path / 'a.json'))
    one, other = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert one['bbox'] == [1, 2, 10, 20] and one['score'] == 0.75
    if form == 'none':
        write_coco(tmp_path / 'b.json', records, CLASSES, {})
        assert (tmp_path / 'a.json').read_bytes() == (tmp_path / 'b.json').read_bytes()
        return
    assert (one['area'], other['area']) == (32, 0) and (one['mask_score'], other['mask_score']) == (0.5, 0)
    expected = frame().numpy()
    if form == 'polygons':
        assert one['segmentation'] == [[1, 2, 1, 8, 7, 8, 7, 2]]
        expected[0, 4:6, 3:5] = True  # holes are filled
    assert (np.stack([coco.annToMask(each) for each in (one, other)]) == expected).all()


def test_masks_are_evaluated_by_their_own_list(tmp_path):
    """loadRes takes the area of a mask from its pixels, so that AP by size is right."""
    boxes = [[1, 2, 10, 20], [3, 3, 2, 1]]
    data = dict(images=[dict(id=70, file_name='a.png', width=64, height=48),
                        dict(id=8, file_name='b/c.png', width=64, height=48)],
                categories=[dict(id=5, name='kiwi'), dict(id=3, name='fig')],
                annotations=[dict(id=1, image_id=70, category_id=3, iscrowd=0, area=32, bbox=boxes[0],
                                  segmentation=[[1, 2, 1, 8, 7, 8, 7, 2]])])
    (tmp_path / 'val.json').write_text(json.dumps(data))
    ids = read_annotations(str(tmp_path / 'val.json'), CLASSES)
    truth = COCO(str(tmp_path / 'val.json'))
    for scores in None, [0.5, 0.25]:
        def found(scores=scores):
            return records(frame(), scores)

        write_coco_results(tmp_path / 'out.json', found, ids)
        write_coco_masks(tmp_path / 'out.segm.json', found, ids)
        written = [json.loads((tmp_path / name).read_text()) for name in ('out.json', 'out.segm.json')]
        assert [list(each[0]) for each in written] == [['image_id', 'category_id', 'bbox', 'score'],
                                                       ['image_id', 'category_id', 'segmentation', 'score']]
        assert [each['score'] for each in written[1]] == (scores or [0.75, 0.125])
        precision = {}
        for kind, name in ('bbox', 'out.json'), ('segm', 'out.segm.json'):
            results = truth.loadRes(str(tmp_path / name))
            assert results.anns[1]['area'] == (200 if kind == 'bbox' else 32)
            evaluation = COCOeval(truth, results, kind)
            for step in evaluation.evaluate, evaluation.accumulate, evaluation.summarize:
                step()
            precision[kind] = evaluation.stats[0]
        # 32 of 36 pixels: right up to an overlap of 0.85.
        assert precision == pytest.approx(dict(bbox=1.0, segm=0.8))


def test_results_with_the_ids_of_an_annotation_file(tmp_path):
    data = dict(images=[dict(id=70, file_name='a.png', width=64, height=48), dict(id=8, file_name='b/c.png'),
                        dict(id=9, file_name='c.png')], annotations=[],
                categories=[dict(id=5, name='kiwi'), dict(id=3, name='fig'), dict(id=1, name='pear')])
    (tmp_path / 'val.json').write_text(json.dumps(data))
    ids = read_annotations(str(tmp_path / 'val.json'), CLASSES)
    assert ids.image_id('/data/images/b/c.png') == 8 and ids.image_id('/data/c.png') == 9
    assert ids.image_id('/data/ac.png') is None
    write_coco_results(tmp_path / 'out.json', records, ids)
    assert json.loads((tmp_path / 'out.json').read_text()) == [
        dict(image_id=70, category_id=3, bbox=[1, 2, 10, 20], score=0.75),
        dict(image_id=70, category_id=5, bbox=[3, 3, 2, 1], score=0.125)]
    results = COCO(str(tmp_path / 'val.json')).loadRes(str(tmp_path / 'out.json'))
    assert len(results.getAnnIds()) == 2


@pytest.mark.parametrize('name, path', [
    ('./a.png', '/data/images/a.png'), ('b//./c.png', '/data/images/b/c.png'),
    ('x/../b/c.png', '/data/images/b/c.png'), ('/data/images/a.png', '/data/images/a.png'),
    ('../other/a.png', '/data/other/a.png'), ('caf\u00e9.png', '/data/cafe\u0301.png')])
def test_names_are_compared_as_paths(tmp_path, name, path):
    data = dict(images=[dict(id=1, file_name='A.png'), dict(id=2, file_name=name)], annotations=[],
                categories=[dict(id=1, name='fig'), dict(id=2, name='kiwi')])
    (tmp_path / 'val.json').write_text(json.dumps(data))
    ids = read_annotations(str(tmp_path / 'val.json'), CLASSES)
    assert ids.image_id(path) == 2
    assert ids.image_id('/data/images/A.png') == 1  # case matters
    assert ids.image_id('/data/images/B/c.png') is None


def test_an_image_under_several_ids(tmp_path):
    data = dict(images=[dict(id=1, file_name='a.png'), dict(id=2, file_name='./a.png'),
                        dict(id=3, file_name='../b.png'), dict(id=4, file_name='b.png')], annotations=[],
                categories=[dict(id=1, name='fig'), dict(id=2, name='kiwi')])
    (tmp_path / 'val.json').write_text(json.dumps(data))
    ids = read_annotations(str(tmp_path / 'val.json'), CLASSES)
    assert ids.image_id('/data/b.png') == 4
    with refused('bad-annotations', 'val.json', '/data/a.png', '(1, 2)'):
        ids.image_id('/data/a.png')


def test_a_table(tmp_path):
    write_csv(tmp_path / 'a.csv', records, CLASSES, score=0.3, video=False)
    assert (tmp_path / 'a.csv').read_text().splitlines() == [
        'file,class,score,x1,y1,x2,y2', 'a.png,fig,0.75,1.00,2.00,11.00,22.00']
    write_csv(tmp_path / 'b.csv', lambda: records(frame=4, refinements=2), CLASSES, score=0, video=True)
    with open(tmp_path / 'b.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['frame'], row['refinements'], row['class']) for row in rows] == [
        ('4', '2', 'fig'), ('4', '2', 'kiwi'), ('4', '2', '')]


@pytest.mark.parametrize('text, code, word', [
    ('{', 'bad-annotations', 'COCO'), ('[]', 'bad-annotations', 'COCO'),
    ('{"images": []}', 'bad-annotations', "KeyError: 'categories'"),
    ('{"images": [], "categories": [{"id": 1, "name": "fig"}]}', 'classes-mismatch', ' kiwi '),
    (None, 'missing-file', 'No such file'),
])
def test_annotation_files_that_are_none(tmp_path, text, code, word):
    if text is not None:
        (tmp_path / 'a.json').write_text(text)
    with refused(code, '--annotations', 'a.json', word):
        read_annotations(str(tmp_path / 'a.json'), CLASSES)
