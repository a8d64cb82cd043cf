"""Every fault gives the finding of its name; a clean set has no findings."""

import numpy as np
import pytest
from data.doctor.faults import ALSO, FAULTS
from deqdet.data.annotation_checks import boxes_are_corners
from deqdet.data.doctor import examine
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config


def grades(examination):
    """Names of the findings, by grade."""
    return {grade: {each.check for each in examination.of_grade(grade)}
            for grade in ('error', 'warning', 'note')}


def test_nothing_to_say_of_a_clean_set(pets):
    examination = examine(pets.cfg, samples=4)
    # Ids with gaps that do not start at 1 are fine; crowds and empty images are counted.
    assert grades(examination) == dict(error=set(), warning=set(), note={'crowd', 'empty-images'})
    assert examination.status() == examination.status(strict=True) == 0
    assert examination.images_read == 20 and len(examination.samples) == 4
    counts = examination.counts()
    assert counts['train'] == dict(
        datasets=[f'train_dataloader.dataset, {pets.root}/train.json'], images=12, images_without_objects=1,
        objects=32, crowds=1, most_objects_in_an_image=3, objects_per_class=dict(cat=11, dog=11, cow=10))
    assert counts['test'] == counts['val']


@pytest.mark.parametrize('plant, check, grade, words', FAULTS, ids=[plant.__name__ for plant, *_ in FAULTS])
def test_a_planted_fault_is_found(pets, plant, check, grade, words):
    plant(pets)
    pets.write()
    examination = examine(pets.cfg, samples=2)
    found = [each for each in examination.findings if each.check == check]
    # One finding for each set with the fault.
    assert {each.grade for each in found} == {grade} and len({each.where for each in found}) == len(found)
    assert words in found[0].line and '\n' not in found[0].line
    faults = {each.check for each in examination.findings if each.grade != 'note'}
    assert faults - {check} == ALSO.get(plant.__name__, set())
    assert examination.status() == (grade == 'error')
    assert examination.status(strict=True) == 1


def test_wrappers_are_looked_through(pets):
    data = pets.cfg.train_dataloader.dataset
    val = {**pets.cfg.val_dataloader.dataset, 'pipeline': data.pipeline, 'test_mode': False}
    pets.cfg.train_dataloader.dataset = dict(
        type='MultiImageMixDataset', pipeline=[dict(type='RandomFlip', prob=0.5)],
        dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[
            dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=data), val])))
    # The step that packs a sample comes last, as with a mosaic.
    pack = data.pipeline.pop()
    val['pipeline'] = data.pipeline
    pets.cfg.train_dataloader.dataset.pipeline.append(pack)
    pets.box(4)['bbox'][2] = 0
    pets.write()
    examination = examine(pets.cfg, samples=2)
    box, leak = (next(each for each in examination.findings if each.check == check)
                 for check in ('degenerate-box', 'leakage'))
    # Training uses all validation images.
    assert '8 of 8 images' in leak.line
    assert box.where == f'train_dataloader.dataset.dataset.dataset.datasets.0.dataset, {pets.root}/train.json'
    assert examination.counts()['train']['images'] == 20
    assert len(examination.samples) == 2
    found = grades(examination)
    assert (found['error'], found['warning']) == ({'leakage'}, {'degenerate-box'})


def test_what_the_filter_leaves_out_need_not_be_there(pets):
    pets.cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=True)
    pets.image(0).unlink()  # the image without objects
    examination = examine(pets.cfg, samples=2)
    assert grades(examination) == dict(
        error=set(), warning=set(), note={'crowd', 'empty-images', 'filtered-images'})


def test_a_few_indices_of_a_set(pets):
    pets.cfg.train_dataloader.dataset.indices = 4
    pets.image(9).unlink()
    assert examine(pets.cfg, samples=2).status() == 0
    pets.image(2).unlink()
    assert grades(examine(pets.cfg, samples=2))['error'] == {'missing-images'}


def test_images_are_left_alone_on_request(pets):
    pets.image(3).write_bytes(b'')
    assert examine(pets.cfg, read_images=False).images_read == 0
    examination = examine(pets.cfg, read_images=False, limit=3)
    assert examination.status() == 0 and examination.samples == []
    limited = examine(pets.cfg, limit=3, samples=0)
    assert limited.images_read == 6 and 'left-out' in grades(limited)['note']


def test_what_one_fault_hides_is_said(pets):
    pets.box(5)['id'] = pets.box(4)['id']
    pets.image(4).write_bytes(b'')
    pets.write()
    examination = examine(pets.cfg, samples=0)
    assert grades(examination)['error'] == {'annotation-ids'}
    line, = (each.line for each in examination.findings if each.check == 'left-out')
    assert line.startswith('train_dataloader.dataset') and 'images and copies were not checked' in line


def test_a_name_with_another_ending(pets):
    pets.image(4).rename(pets.root / 'train' / '4.PNG')
    line, = (each.line for each in examine(pets.cfg, samples=0).findings if each.check == 'missing-images')
    assert '4.PNG exists instead of 4.png' in line


def test_xyxy_is_one_finding(pets):
    for annotation in pets.train['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]
    pets.write()
    finding, = (each for each in examine(pets.cfg, samples=0).findings if each.grade != 'note')
    assert finding.count > 10 and len(finding.examples) == 3


VOC = '''<annotation><size><width>80</width><height>60</height></size><object><name>cat</name><bndbox>
<xmin>11</xmin><ymin>11</ymin><xmax>{}</xmax><ymax>31</ymax></bndbox></object></annotation>'''


@pytest.fixture
def voc(pets):
    """The config with a training set in Pascal VOC's format."""
    root = pets.root / 'voc'
    (root / 'JPEGImages').mkdir(parents=True)
    (root / 'Annotations').mkdir()
    for number in (1, 3, 5):
        pets.image(number).rename(root / 'JPEGImages' / f'{number}.jpg')
        (root / 'Annotations' / f'{number}.xml').write_text(VOC.format(41))
    (root / 'train.txt').write_text('1\n3\n5\n')
    cfg = Config(pets.cfg.to_dict())
    data = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='VOCDataset', data_root=str(root), data_prefix=dict(sub_data_root=''), ann_file='train.txt',
        metainfo=data.metainfo, pipeline=data.pipeline)
    return root, cfg


def test_another_format(voc):
    _, cfg = voc
    examination = examine(cfg, samples=2)
    assert grades(examination) == dict(
        error=set(), warning=set(), note={'left-out', 'crowd', 'empty-images'})
    line, = (each.line for each in examination.findings if each.check == 'left-out')
    assert 'train.txt' in line and 'ids' in line
    assert examination.counts()['train']['objects'] == 3


def test_faults_in_another_format(voc):
    root, cfg = voc
    (root / 'Annotations' / '3.xml').write_text(VOC.format(11))
    (root / 'JPEGImages' / '5.jpg').unlink()
    (root / 'train.txt').write_text('1\n3\n5\n1\n')
    found = grades(examine(cfg, samples=0))
    assert found['error'] == {'missing-images'}
    assert found['warning'] == {'degenerate-box', 'image-twice'}


sides = st.floats(1, 2000)
shares = st.floats(0, 1)


@settings(deadline=None)
@given(st.lists(st.tuples(sides, sides, shares, shares, shares, shares), min_size=1, max_size=40),
       st.floats(0, 0.1))
def test_no_boxes_in_their_images_are_taken_for_corners(rows, overhang):
    """Such boxes of any size and place, even if they reach a little beyond the image."""
    sizes, place, extent = np.split(np.array(rows), 3, axis=1)
    extent = np.maximum(extent * sizes, 1e-3)
    first = place * np.maximum(sizes - extent, 0)
    boxes = np.concatenate([first, extent + overhang * sizes], axis=1)
    assert not boxes_are_corners(boxes, sizes)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.5))
def test_corners_are_told_wherever_the_objects_are(seed, largest):
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(100, 1000, (200, 2))
    extent = rng.uniform(0.01, largest, (200, 2)) * sizes
    first = rng.uniform(0, 1, (200, 2)) * (sizes - extent)
    assert boxes_are_corners(np.concatenate([first, first + extent], axis=1), sizes)
    assert not boxes_are_corners(np.concatenate([first, extent], axis=1), sizes)
