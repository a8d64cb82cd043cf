"""Any content of an annotation file gives one clear error line, or a training step and an evaluation."""

import copy
import json
import math
import os

import numpy as np
import pytest
import torch
from data.tiny_coco import SIZE, annotation, write_config, write_dataset
from deqdet.data.checks import check_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from outcomes import line_of
from small_model import build, small_config, total

# For more examples: DEQDET_EXAMPLES=1000 python -m pytest tests/data/test_fuzzed_annotations.py
EXAMPLES = int(os.environ.get('DEQDET_EXAMPLES', 0))


def fuzzed(examples):
    return settings(max_examples=EXAMPLES or examples, deadline=None, derandomize=not EXAMPLES,
                    suppress_health_check=list(HealthCheck))


class Workplace:
    """A data set of four images, its config, and a detector for it."""

    def __init__(self, folder):
        self.root = write_dataset(folder / 'data')
        self.good = json.loads((self.root / 'annotations.json').read_text())
        self.cfg = Config.fromfile(write_config(folder / 'config.py', self.root))
        config = small_config()
        config.rpn_head.num_proposals = 4
        config.test_cfg.rcnn.max_per_img = 5
        for layer in config.roi_head.bbox_head:
            layer.num_classes = 2
        self.model = build(config)

    def write(self, content):
        """Write the file and clear the caches."""
        path = self.root / 'annotations.json'
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        self.moment = getattr(self, 'moment', 10**9) + 1
        os.utime(path, (self.moment, self.moment))

    def use(self):
        """Check, train a step on all images, and evaluate, as the tools do."""
        check_files(self.cfg, ('train', 'val'))
        self.train_and_evaluate()

    def train_and_evaluate(self):
        train, val = (DATASETS.build(copy.deepcopy(self.cfg[f'{split}_dataloader'].dataset))
                      for split in ('train', 'val'))
        samples = [train[number] for number in range(len(train))]
        batch = self.model.data_preprocessor(pseudo_collate(samples), training=True)
        losses = self.model.loss(batch['inputs'], batch['data_samples'])
        total(losses).backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in self.model.parameters()
                   if parameter.grad is not None)
        evaluator = METRICS.build(self.cfg.val_evaluator)
        evaluator.dataset_meta = val.metainfo
        self.model.eval()
        for number in range(len(val)):
            with torch.no_grad():
                found = self.model.test_step(pseudo_collate([val[number]]))
            evaluator.process({}, [each.to_dict() for each in found])
        self.model.train()
        metrics = evaluator.evaluate(size=len(val))
        assert all(math.isfinite(value) for value in metrics.values())


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield Workplace(tmp_path_factory.mktemp('fuzz'))


odd_numbers = st.sampled_from(
    [0, -1, 0.5, 1e-30, 1e30, -1e30, 1e308, math.inf, -math.inf, math.nan, 2**63, 10**400])
odd_texts = st.sampled_from(['', 'x', '7', 'ünï 猫', '../0.png', '/etc/passwd', 'a\0b', 'a\nb', '\ud800',
                             '.', '..', 'https://example.com/0.png', '0.PNG', 'x' * 5000])
odd = st.one_of(odd_numbers, odd_texts, st.sampled_from(
    [None, True, False, [], {}, [1], [[1, 2, 3, 4]], [1, 2, 3], {'a': 1}, [None] * 4, ['1', '2', '3', '4']]))
PARTS = dict(images=('id', 'file_name', 'width', 'height'),
             annotations=(
                 'id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'ignore', 'segmentation'),
             categories=('id', 'name', 'supercategory'))


@st.composite
def mutations(draw):
    """One change: a new value or a removed key, in one record or in all."""
    part = draw(st.sampled_from(list(PARTS)))
    key = draw(st.sampled_from(PARTS[part]))
    row = draw(st.one_of(st.none(), st.integers(0, 3)))
    if draw(st.integers(0, 3)) == 0:
        return part, row, key, KeyError
    if key == 'bbox' and draw(st.booleans()):
        number = st.one_of(odd_numbers, st.integers(-100, 100))
        return part, row, key, [draw(number) for _ in range(4)]
    return part, row, key, draw(odd)


def change(data, part, row, key, value):
    records = data[part] if row is None else data[part][row:row + 1]
    for record in records:
        if value is KeyError:
            record.pop(key, None)
        else:
            record[key] = value


@pytest.mark.slow
@fuzzed(30)
@given(changes=st.lists(mutations(), min_size=1, max_size=3))
def test_fields(place, changes):
    data = copy.deepcopy(place.good)
    for each in changes:
        change(data, *each)
    place.write(data)
    line_of(place.use)


@fuzzed(30)
@given(part=st.sampled_from([*PARTS, None]), value=odd, cut=st.one_of(st.none(), st.floats(0, 1)))
def test_shapes_of_the_file(place, part, value, cut):
    data = value if part is None else {**place.good, part: value}
    text = json.dumps(data)
    place.write(text if cut is None else text[:int(cut * len(text))])
    assert line_of(place.use) is not None


@pytest.mark.parametrize('content', [
    '', ' ', '{', 'null', '[' * 100_000, '1' * 5000, '\ufeff{}', '{"images": ' * 5000, 'NaN', '"images"'],
    ids=lambda text: ascii(text[:12]))
def test_files_that_are_something_else(place, content):
    place.write(content)
    assert 'annotations.json' in line_of(place.use)


def boxes(rng, count):
    corner = rng.uniform(0, SIZE - 4, (count, 2))
    return np.concatenate([corner, rng.uniform(1, SIZE - corner)], axis=1).round(2).tolist()


@pytest.mark.parametrize('count', [1, 5, 100, 1000])
def test_objects_in_an_image(place, count, log):
    """With more objects than queries, training uses as many objects as queries and logs a line."""
    data = copy.deepcopy(place.good)
    rng = np.random.default_rng(count)
    data['annotations'] += [annotation(100 + number, 1, box, 1 + number % 2)
                            for number, box in enumerate(boxes(rng, count))]
    place.write(data)
    assert line_of(place.use) is None
    assert any('4 queries' in line for line in log) == (count > 3)


def test_ids_as_text_and_names_in_unicode(place):
    data = copy.deepcopy(place.good)
    for image in data['images']:
        image['id'] = f'bild {image["id"]} ä'
    for category in data['categories']:
        category['id'] = f'art {category["id"]}'
    for each in data['annotations']:
        each.update(image_id=f'bild {each["image_id"]} ä', category_id=f'art {each["category_id"]}')
    place.write(data)
    assert line_of(place.use) is None


def test_what_is_refused_says_why(place):
    for key, value, words in (
            ('bbox', [0, 0, math.inf, 5], ['1 boxes are larger than any image']),
            ('bbox', [-1e30, 0, 2e30, 5], ['1 boxes are larger than any image']),
            ('bbox', [10**400, 0, 5, 5], ['bbox [1000', 'four numbers [x, y, width, height]']),
            ('image_id', 'one', ['image_id of annotations', "'one'"]),
            ('category_id', [1], ['category_id of annotations', '[1]']),
            ('iscrowd', 'no', ["iscrowd 'no'", '0 or 1'])):
        data = copy.deepcopy(place.good)
        data['annotations'][0][key] = value
        place.write(data)
        line = line_of(place.use)
        assert '[bad-annotations]' in line and not [word for word in words if word not in line]
    data = copy.deepcopy(place.good)
    data['images'][0]['file_name'] = 7
    place.write(data)
    assert 'file_name of an image is 7' in line_of(place.use)
    for each in data['images']:
        each['file_name'] = '0.png'
    for each in data['annotations']:
        each['id'] = f'number {each["id"]}'
    place.write(data)
    assert 'annotation ids are not numbers' in line_of(place.use)
