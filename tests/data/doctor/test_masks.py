"""Faults of masks that are planted in a clean set with masks, and sets of which the doctor says nothing."""

import json

import numpy as np
import pytest
from data.doctor import mask_faults
from data.doctor.mask_faults import ALSO, FAULTS, ellipse, encoded, give_masks, polygon, uncompressed
from data.doctor.pets import HEIGHT, WIDTH
from deqdet.commands.dataset.make_digits import make_digits
from deqdet.data.checks import check_files
from deqdet.data.doctor import examine
from mmdet.registry import DATASETS
from mmengine.config import Config
from refusals import refused
from small_model import ROOT


def use_masks(cfg):
    """Load masks in training, and compare them in validation and test."""
    cfg.train_dataloader.dataset.pipeline[1].with_mask = True
    for split in ('val', 'test'):
        cfg[f'{split}_evaluator'].metric = ['bbox', 'segm']


@pytest.fixture
def masked(pets):
    """The clean set with RLE masks, and a config that uses them."""
    give_masks(pets)
    use_masks(pets.cfg)
    return pets


def faults_of(examination):
    return {each.check for each in examination.findings if each.grade != 'note'}


@pytest.mark.parametrize('plant, check, grade, words', FAULTS, ids=[plant.__name__ for plant, *_ in FAULTS])
def test_a_planted_fault_is_found(masked, plant, check, grade, words):
    plant(masked)
    masked.write()
    examination = examine(masked.cfg, read_images=False)
    found = [each for each in examination.findings if each.check == check]
    assert {each.grade for each in found} == {grade} and len({each.where for each in found}) == len(found)
    assert words in found[0].line and '\n' not in found[0].line
    assert faults_of(examination) - {check} <= ALSO.get(plant.__name__, set())
    # Training stops at errors before it starts, and goes on with warnings.
    if grade == 'error':
        with refused('bad-annotations', found[0].where, words):
            check_files(masked.cfg, ('train', 'val'))
    else:
        check_files(masked.cfg, ('train', 'val'))


@pytest.mark.parametrize('plant', [
    mask_faults.text_that_is_cut_off, mask_faults.counts_of_another_image,
    mask_faults.list_of_counts_that_ends_early, mask_faults.numbers_without_a_polygon,
    mask_faults.texts_for_numbers, mask_faults.width_before_height, mask_faults.one_without_a_mask,
    mask_faults.one_with_an_empty_list])
def test_mmdet_fails_on_an_error_or_reads_other_pixels(masked, plant):
    plant(masked)
    masked.write()
    masked.cfg.train_dataloader.dataset.pipeline[1].with_bbox = False
    data = DATASETS.build(masked.cfg.train_dataloader.dataset)
    row, image = next((row, image) for row, image in enumerate(masked.train['images'])
                      if image['id'] == masked.box(4)['image_id'])
    boxes = [each['bbox'] for each in masked.train['annotations'] if each['image_id'] == image['id']]
    try:
        found = data[row]['data_samples'].gt_instances.masks.masks
    except Exception:
        return
    assert not all(np.array_equal(mask, ellipse(box)) for mask, box in zip(found, boxes))


def test_mmdet_reads_the_pixels_of_a_clean_set(masked):
    masked.write()
    data = DATASETS.build(masked.cfg.train_dataloader.dataset)
    for row, image in enumerate(masked.train['images']):
        boxes = [each['bbox'] for each in masked.train['annotations']
                 if each['image_id'] == image['id'] and not each['iscrowd']]
        found = data[row]['data_samples'].gt_instances.masks.masks
        np.testing.assert_array_equal(found, np.reshape([ellipse(box) for box in boxes], (-1, HEIGHT, WIDTH)))


@pytest.mark.parametrize('plant', [plant for plant, check, *_ in FAULTS if check.startswith('mask-')
                                   and check != 'mask-form'])
def test_unused_masks_are_warnings(pets, plant):
    give_masks(pets)
    plant(pets)
    pets.write()
    found = {each.check: each.grade for each in examine(pets.cfg, read_images=False).findings}
    assert any(check.startswith('mask-') for check in found)
    assert not {check for check, grade in found.items() if grade == 'error'}
    # Training with boxes does not read them, so it has nothing to say of them.
    check_files(pets.cfg, ('train', 'val'))


@pytest.mark.parametrize('form', [
    polygon, lambda box: encoded(ellipse(box)), lambda box: uncompressed(ellipse(box))],
    ids=['polygons', 'rle', 'uncompressed'])
@pytest.mark.parametrize('used', [True, False])
def test_nothing_to_say_of_masks_in_each_form(pets, form, used):
    give_masks(pets, form)
    # COCO's crowds are uncompressed RLE around several objects, whatever their boxes are.
    pets.train['annotations'][-1].update(segmentation=uncompressed(ellipse([0, 0, WIDTH, HEIGHT])))
    if used:
        use_masks(pets.cfg)
    pets.write()
    examination = examine(pets.cfg, samples=4)
    assert not faults_of(examination) and len(examination.samples) == 4


@pytest.mark.parametrize('value', [None, [], {}])
def test_nothing_to_say_of_files_with_boxes_only(pets, value):
    give_masks(pets, lambda box: value)
    pets.box(4)['segmentation'] = polygon(pets.box(4)['bbox'])  # nor if one object has a mask
    pets.write()
    assert not faults_of(examine(pets.cfg, read_images=False))


@pytest.mark.parametrize('masks', ['rle', 'polygons'])
def test_nothing_to_say_of_digits(tmp_path, masks):
    make_digits(tmp_path, train=60, val=20, test=20, masks=masks)
    cfg = Config.fromfile(str(ROOT / 'configs' / 'deqdet' / 'deqdet_digits.py'))
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = str(tmp_path)
        next(step for step in cfg[f'{split}_dataloader'].dataset.pipeline
             if step.type == 'LoadAnnotations').with_mask = True
    for split in ('val', 'test'):
        cfg[f'{split}_evaluator'].ann_file = str(tmp_path / 'annotations' / f'{split}.json')
    assert not faults_of(examine(cfg, samples=4))


def test_digits_made_before_there_were_masks(tmp_path):
    """One line names the file, the number and what to do; boxes work as before."""
    make_digits(tmp_path, train=3, val=2, test=2)
    for split in ('train', 'val', 'test'):
        path = tmp_path / 'annotations' / f'{split}.json'
        data = json.loads(path.read_text())
        for annotation in data['annotations']:
            del annotation['segmentation']
        path.write_text(json.dumps(data))
    count = len(data['annotations'])
    cfg = Config.fromfile(str(ROOT / 'configs' / 'deqdet' / 'deqdet_digits.py'))
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = str(tmp_path)
    for split in ('val', 'test'):
        cfg[f'{split}_evaluator'].ann_file = str(tmp_path / 'annotations' / f'{split}.json')
    check_files(cfg, ('train', 'val', 'test'))
    cfg.model.roi_head.mask_head = dict(type='DynamicMaskHead')
    cfg.val_evaluator.metric = cfg.test_evaluator.metric = ['bbox', 'segm']
    with refused('bad-annotations', 'test_evaluator', str(path), f'none of {count} annotations',
                 "metric='bbox'"):
        check_files(cfg, ('test', ))
    cfg.train_dataloader.dataset.pipeline[1].with_mask = True
    with refused('bad-annotations', str(path.with_name('train.json')), 'with_mask=True', 'mask_head'):
        check_files(cfg, ('train', 'val'))


def test_settings_that_do_not_fit(masked):
    masked.write()
    masked.cfg.model.roi_head = dict(type='StandardRoIHead')
    with refused('settings-mismatch', 'val_evaluator', "'segm'", 'mask_head', "metric='bbox'"):
        check_files(masked.cfg, ('train', 'val'))
    check_files(masked.cfg, ('train', ))
    masked.cfg.model.roi_head.mask_head = dict(type='FCNMaskHead')
    check_files(masked.cfg, ('train', 'val'))
    masked.cfg.train_dataloader.dataset.pipeline[1].with_mask = False
    with refused('settings-mismatch', 'train_dataloader.dataset', 'mask_head', 'with_mask=True'):
        check_files(masked.cfg, ('train', 'val'))
    check_files(masked.cfg, ('val', ))


def test_the_data_set_is_the_ground_truth(masked):
    """Without ann_file, the evaluator takes the masks of the data set."""
    masked.cfg.val_evaluator.ann_file = None
    masked.write()
    check_files(masked.cfg, ('train', 'val'))
    del masked.val['annotations'][3]['segmentation']
    masked.write()
    with refused('bad-annotations', 'val.json', "1 of 21 annotations have no 'segmentation'", "'segm'"):
        check_files(masked.cfg, ('train', 'val'))


def test_the_evaluator_reads_a_file_of_its_own(masked):
    other = masked.root / 'other.json'
    del masked.val['annotations'][3]['segmentation']
    masked.val['annotations'][4]['segmentation']['counts'] = 'x'
    masked.write()
    (masked.root / 'val.json').rename(other)
    masked.val['annotations'] = [each for each in masked.val['annotations'] if 'segmentation' in each]
    masked.val['annotations'][3]['segmentation'] = encoded(ellipse(masked.val['annotations'][3]['bbox']))
    masked.write()
    check_files(masked.cfg, ('train', 'val'))
    for split in ('val', 'test'):
        masked.cfg[f'{split}_evaluator'].ann_file = str(other)
    examination = examine(masked.cfg, read_images=False)
    assert {(each.check, each.grade) for each in examination.findings if each.grade != 'note'} == {
        ('mask-broken', 'error'), ('no-masks', 'error')}
    assert all('other.json' in each.where for each in examination.of_grade('error'))


def test_masks_are_found_through_wrappers(masked):
    masked.cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=dict(
        type='ConcatDataset', datasets=[masked.cfg.train_dataloader.dataset]))
    mask_faults.one_without_a_mask(masked)
    masked.write()
    with refused('bad-annotations', 'train_dataloader.dataset.dataset.datasets.0', 'annotation 19'):
        check_files(masked.cfg, ('train', ))
