"""Boxes that are not upright give a warning with their number."""

import pytest
from data.tiny_coco import annotation, write_annotations
from deqdet.data.annotation_checks import annotation_findings
from deqdet.data.annotations import summarise
from refusals import refused

BOX = (10, 12, 20, 8)
POLYGON = [[10, 12, 30, 12, 30, 20, 10, 20]]


def findings(tmp_path, **extra):
    """Findings in a file of four boxes; the first two have extra keys."""
    path = write_annotations(tmp_path / 'a.json', [
        annotation(number + 1, number, BOX, **(extra if number < 2 else {})) for number in range(4)])
    found = annotation_findings(summarise(str(path)), ('fig', ), where='here', training=True)
    return {each.check: each for each in found}


@pytest.mark.parametrize('extra', [
    dict(attributes=dict(occluded=False, rotation=90)), dict(attributes=dict(rotation=12.5)),
    dict(attributes=dict(rotation='-30.0')), dict(rotation=45), dict(angle=1),
    dict(attributes=dict(rotation=300.2))])
def test_rotated_boxes(tmp_path, extra):
    found = findings(tmp_path, **extra)
    assert set(found) == {'rotated-boxes'} and found['rotated-boxes'].grade == 'warning'
    assert found['rotated-boxes'].line.startswith('here: 2 of 4 boxes have a rotation')
    assert found['rotated-boxes'].count == 2


@pytest.mark.parametrize('extra', [
    dict(attributes=dict(occluded=True, rotation=0.0)), dict(attributes=dict(rotation=180)),
    dict(attributes=[]), dict(attributes=None), dict(rotation=None), dict(attributes=dict(rotation='left')),
    dict(segmentation=POLYGON), dict(segmentation=[]), dict(segmentation=dict(size=[64, 64], counts='')),
    dict(bbox_mode=1), dict(segmentation=[[1, 2, 3]]), dict(segmentation=[[11, 13, 30, 12, 29, 20.4]])])
def test_upright_boxes(tmp_path, extra):
    assert findings(tmp_path, **extra) == {}


@pytest.mark.parametrize('extra, check', [
    (dict(bbox_mode=0), 'box-mode'), (dict(bbox_mode='XYXY_ABS'), 'box-mode'),
    # The outline of the same box, upright and at twice the scale.
    (dict(segmentation=[[16, 6, 24, 6, 24, 26, 16, 26]]), 'box-outline'),
    (dict(segmentation=[[2 * value for value in POLYGON[0]]]), 'box-outline')])
def test_other_conventions(tmp_path, extra, check):
    found = findings(tmp_path, **extra)
    assert {name: each.count for name, each in found.items()} == {check: 2}


@pytest.mark.parametrize('box, words', [
    ([10, 12, 20, 8, 90], 'five numbers are a rotated box'), ([1] * 8, 'eight numbers are the corners'),
    ([1, 2], 'keypoints or captions')])
def test_boxes_of_other_lengths(tmp_path, box, words):
    path = write_annotations(tmp_path / 'a.json', [dict(annotation(1, 0, BOX), bbox=box)])
    with refused('bad-annotations', f'bbox {box}', words):
        summarise(str(path))
