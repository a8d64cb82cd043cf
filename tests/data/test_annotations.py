"""Summaries of annotation files judge boxes as mmdet does."""

import json

import pytest
from data.tiny_coco import SIZE, annotation, write_annotations
from deqdet.data.annotations import summarise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset
from refusals import refused

GOOD = (10, 10, 20, 20)


def doubtful(path):
    """Ids of the unused annotations, by reason."""
    table = summarise(path).table
    return {name: table.ids[mask].tolist() for name, mask in table.doubtful().items()}


def test_doubtful_boxes_are_counted_and_named(tmp_path):
    path = write_annotations(tmp_path / 'a.json', [
        annotation(101, 0, GOOD),
        annotation(102, 0, (10, 10, 0, 5)),
        annotation(103, 1, (10, 10, -3, 5)),
        annotation(104, 1, (SIZE + 1, 0, 5, 5)),
        annotation(105, 2, (-9, 3, 9, 9)),
        annotation(106, 2, (-9, 3, 9.5, 9)),
        dict(annotation(107, 2, GOOD), area=0),
    ])
    assert len(summarise(path).table.ids) == 7
    assert doubtful(path) == dict(
        without_size=[102, 103], outside=[104, 105], without_area=[107], without_image=[])


def test_ids_of_any_kind_and_images_that_are_not_there(tmp_path):
    image = dict(id='one', width=SIZE, height=SIZE, file_name='one.png')
    records = [dict(id=7, image_id='one', category_id=1, bbox=[SIZE + 35, 0, 5, 5]),
               dict(id=8, image_id='two', category_id=1, bbox=[0, 0, 5, 5])]
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(annotations=records, categories=[dict(id=1, name='ä')],
                                    images=[image])))
    found = doubtful(path)
    assert found['outside'] == [7] and found['without_image'] == [8]
    assert [category['name'] for category in summarise(path).categories] == ['ä']


def test_no_annotations_at_all(tmp_path):
    path = tmp_path / 'a.json'
    image = dict(id=1, width=SIZE, height=SIZE, file_name='one.png')
    path.write_text(json.dumps(dict(images=[image], categories=[])))
    assert len(summarise(path).table.ids) == 0
    assert summarise(path).categories == []


@pytest.mark.parametrize('content', ['', '{"images": [', 'version https://git-lfs'])
def test_a_file_that_is_not_json(tmp_path, content):
    path = tmp_path / 'a.json'
    path.write_text(content)
    with refused('bad-annotations', path, 'JSON'):
        summarise(path)


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
    found = doubtful(path)
    assert len(found['without_size'] + found['outside']) == len(boxes) - kept


IMAGE = dict(id=1, width=SIZE, height=SIZE, file_name='one.png')
BOX = dict(id=7, image_id=1, category_id=1, bbox=[0, 0, 5, 5])


@pytest.mark.parametrize('images, annotations, words', [
    ([], [], ['images']),
    (None, [], ['images', 'list']),
    ([IMAGE], None, ['annotations', 'list']),
    ([{**IMAGE, 'id': None}], [], ['image number 0 (one.png)', ' id;']),
    ([{**IMAGE, 'height': None}], [], ['image number 0 (one.png)', 'height']),
    ([IMAGE], [{**BOX, 'bbox': None}], ['annotation 7', 'bbox None', '[x, y, width, height]']),
    ([IMAGE], [{**BOX, 'bbox': ['a', 'b', 'c', 'd']}], ['annotation 7', "bbox ['a', 'b', 'c', 'd']"]),
    ([IMAGE], [{'id': 7, 'image_id': 1, 'caption': 'a dog'}], ['annotation 7', 'captions']),
    ([IMAGE], [{**BOX, 'category_id': None}], ['annotation 7', 'category_id']),
], ids=str)
def test_what_is_not_in_the_format(tmp_path, images, annotations, words):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=[])))
    with refused('bad-annotations', path, *words):
        summarise(path)
