"""Annotation files are read right whatever their layout, and as mmdet itself judges boxes."""

import json

import numpy as np
import pytest
from deqdet.engine.annotations import find_doubtful_boxes, read_categories
from engine.tiny_coco import SIZE, annotation, write_annotations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset

GOOD = (10, 10, 20, 20)
RUN_LENGTH = dict(segmentation=dict(counts='a{b"}c', size=[SIZE, SIZE]))
POLYGON = dict(segmentation=[[1.5, 2.5, 3, 4, 5, 6e0]])


@pytest.mark.parametrize('indent', [None, 0, 4])
def test_doubtful_boxes_are_counted_and_named(tmp_path, indent):
    path = write_annotations(tmp_path / 'a.json', [
        annotation(101, 0, GOOD, **POLYGON),
        annotation(102, 0, (10, 10, 0, 5), **RUN_LENGTH),
        annotation(103, 1, (10, 10, -3, 5), **POLYGON),
        annotation(104, 1, (SIZE + 1, 0, 5, 5), **RUN_LENGTH),
        annotation(105, 2, (-9, 3, 9, 9)),
        annotation(106, 2, (-9, 3, 9.5, 9)),
        dict(annotation(107, 2, GOOD), area=0),
    ], indent=indent)
    boxes = find_doubtful_boxes(path)
    assert (boxes.total, boxes.without_size, boxes.outside) == (7, 2, 2)
    assert boxes.examples == dict(without_size=[102, 103], outside=[104, 105], without_area=[107])


def test_no_more_than_three_examples(tmp_path):
    path = write_annotations(tmp_path / 'a.json',
                             [annotation(i, 0, (1, 1, 0, 0)) for i in range(5)])
    boxes = find_doubtful_boxes(path)
    assert boxes.without_size == 5
    assert boxes.examples['without_size'] == [0, 1, 2]


def test_a_file_written_in_an_unusual_way_is_parsed_as_a_whole(tmp_path):
    image = dict(id='one', width=SIZE, height=SIZE)
    records = [dict(id=7, image_id='one', bbox=[99, 0, 5, 5]), dict(id=8, image_id='one'),
               dict(id=9, image_id='one', bbox=[], captions=['"bbox": [1, 2, 3, 4]'])]
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(annotations=records, categories=[dict(id=1, name='ä')],
                                    images=[image])))
    boxes = find_doubtful_boxes(path)
    assert (boxes.total, boxes.outside, boxes.examples['outside']) == (1, 1, [7])
    assert [category['name'] for category in read_categories(path)] == ['ä']


def test_no_annotations_at_all(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"images": [], "categories": []}')
    assert find_doubtful_boxes(path).total == 0
    assert read_categories(path) == []


@pytest.mark.parametrize('order', [('categories', 'images', 'annotations'),
                                   ('annotations', 'images', 'categories')])
@pytest.mark.parametrize('indent', [None, 2])
def test_categories_wherever_they_are(tmp_path, order, indent):
    path = write_annotations(tmp_path / 'a.json', [annotation(1, 0, GOOD)], names=('b', 'ü "x"'))
    data = json.loads(path.read_text())
    data['info'] = dict(description='the "categories": [..] are', categories=3)
    path.write_text(json.dumps({key: data[key] for key in ('info', ) + order}, indent=indent))
    assert [category['name'] for category in read_categories(path)] == ['b', 'ü "x"']


@pytest.mark.parametrize('content', ['', '{"images": [', 'version https://git-lfs'])
def test_a_file_that_is_not_json(tmp_path, content):
    path = tmp_path / 'a.json'
    path.write_text(content)
    with pytest.raises(json.JSONDecodeError):
        read_categories(path)


number = st.one_of(st.integers(-80, 80), st.floats(-80, 80).map(lambda value: round(value, 1)))


@settings(max_examples=30, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes=st.lists(st.tuples(number, number, number, number), min_size=1, max_size=6))
def test_what_is_doubtful_is_what_mmdet_drops(tmp_path, boxes):
    path = write_annotations(tmp_path / 'a.json',
                             [annotation(i, i % 4, box) for i, box in enumerate(boxes)])
    dataset = CocoDataset(ann_file=str(path), metainfo=dict(classes=('fig', 'kiwi')),
                          data_prefix=dict(img=''), pipeline=[], test_mode=True,
                          serialize_data=False)
    kept = sum(len(image['instances']) for image in dataset.data_list)
    found = find_doubtful_boxes(path)
    assert found.total == len(boxes)
    assert found.without_size + found.outside == len(boxes) - kept


@pytest.mark.slow
def test_quick_on_a_large_file(tmp_path):
    # A tenth of COCO's training set; the bound is generous, a JSON parser takes longer.
    import time
    polygon = np.random.rand(58).round(3).tolist()
    path = write_annotations(
        tmp_path / 'a.json',
        [annotation(i, i % 4, GOOD, segmentation=[polygon]) for i in range(86_000)])
    start = time.perf_counter()
    assert find_doubtful_boxes(path).total == 86_000
    assert time.perf_counter() - start < 2
