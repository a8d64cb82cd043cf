"""The message of every check names the culprit and the fix."""

import logging
from types import SimpleNamespace
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from data.tiny_coco import annotation, write_annotations, write_config, write_dataset
from deqdet.data import findings
from deqdet.data.annotation_checks import class_findings
from deqdet.data.checks import DataCheckHook, check_files, check_num_classes, report
from deqdet.data.data_configs import class_names
from deqdet.errors import CODES
from mmdet.models import BaseDetector
from mmdet.registry import DATASETS, HOOKS
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from refusals import refused
from torch import nn


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / 'data')


@pytest.fixture
def cfg(tmp_path, root):
    return Config.fromfile(write_config(tmp_path / 'config.py', root))


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr('deqdet.data.checks.print_log',
                        lambda line, level=logging.INFO, **kwargs: lines.append((level, line)))
    return lines


ALL = ('train', 'val', 'test')


def test_findings_have_codes_of_the_catalogue():
    assert set(findings._CODES.values()) <= CODES.keys()


def test_nothing_to_say_about_good_files(cfg, warnings):
    check_files(cfg, ALL)
    assert warnings == []


def test_missing_annotation_file(cfg):
    cfg.train_dataloader.dataset.ann_file = 'gone.json'
    check_files(cfg, ('val', 'test'))
    with refused('missing-file', 'train_dataloader.dataset.ann_file', 'gone.json'):
        check_files(cfg, ALL)


def test_missing_image_folder(cfg):
    cfg.val_dataloader.dataset.data_prefix = dict(img='pictures/')
    with refused('missing-file', 'val_dataloader.dataset.data_prefix.img', 'pictures',
                 'val_dataloader.dataset.data_root'):
        check_files(cfg, ALL)


def test_missing_annotation_file_of_the_evaluator(cfg):
    cfg.val_evaluator = [cfg.val_evaluator, dict(type='CocoMetric', ann_file='gone.json')]
    with refused('missing-file', 'val_evaluator.ann_file', 'gone.json', '--cfg-options'):
        check_files(cfg, ALL)


@pytest.mark.parametrize('wrap', [
    lambda data: dict(type='RepeatDataset', times=2, dataset=data),
    lambda data: dict(type='MultiImageMixDataset', pipeline=[],
                      dataset=dict(type='RepeatDataset', times=2, dataset=data)),
])
def test_inside_wrappers(cfg, wrap):
    data = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = wrap(data)
    check_files(cfg, ALL)
    cfg.train_dataloader.dataset = wrap(dict(data, ann_file='gone.json'))
    with refused('missing-file', 'dataset.dataset', 'ann_file', 'gone.json'):
        check_files(cfg, ALL)


def test_inside_concatenated_datasets(cfg):
    data = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[data, dict(data, ann_file='gone.json')])
    with refused('missing-file', 'train_dataloader.dataset.datasets.1.ann_file'):
        check_files(cfg, ALL)


def test_class_names_within_wrappers_need_no_files(cfg):
    data = dict(cfg.test_dataloader.dataset, ann_file='gone.json')
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[
        dict(type='RepeatDataset', times=2, dataset=data), data])
    assert class_names(cfg, 'test') == ('fig', 'kiwi')


def test_files_elsewhere_are_left_to_their_backend(cfg):
    cfg.train_dataloader.dataset.update(
        ann_file='gone.json', data_prefix=dict(img='gone/'), backend_args=dict(backend='petrel'))
    cfg.val_dataloader.dataset.update(data_root='s3://bucket/')
    cfg.val_evaluator.ann_file = 's3://bucket/annotations.json'
    check_files(cfg, ('train', 'val'))


def test_annotation_file_that_is_not_json(cfg, root):
    (root / 'annotations.json').write_text('version https://git-lfs.github.com/spec/v1')
    with refused('bad-annotations', 'annotations.json', 'JSON'):
        check_files(cfg, ALL)


def test_class_names_are_checked_before_the_data_set_is_built(cfg):
    # Without common classes mmdet drops every image, and then fails on the empty list.
    del cfg.train_dataloader.dataset['metainfo']
    with refused('classes-mismatch', '80 of the 80', 'person', 'fig, kiwi', 'metainfo=dict(classes='):
        check_files(cfg, ('train', ))


CATEGORIES = [dict(id=1, name='cat'), dict(id=2, name='dog'), dict(id=3, name='cow')]


class TestClassNames:

    def test_some_of_the_file_in_its_order(self, warnings):
        report(class_findings(('cat', 'cow'), CATEGORIES, where='here'))
        assert warnings == []

    def test_missing(self):
        with refused('classes-mismatch', 'here: 1 of the 2', '(Dog)', 'cat, dog, cow'):
            report(class_findings(('cat', 'Dog'), CATEGORIES, where='here'))

    def test_another_order_shifts_the_names(self, warnings):
        report(class_findings(('cow', 'cat'), CATEGORIES, where='here'))
        (level, line), = warnings
        assert level == logging.WARNING
        assert all(word in line for word in ('label 0', "'cat'", "'cow'"))

    def test_one_class_without_its_comma(self):
        with refused('classes-mismatch', "classes=('cat', )"):
            report(class_findings(('cat'), CATEGORIES, where='here'))

    def test_two_categories_of_one_name(self):
        with refused('classes-mismatch', 'categories', '(cat)'):
            report(class_findings(('cat', 'dog'), CATEGORIES + [dict(id=9, name='cat')], where='here'))


def head(number):
    module = nn.Module()
    module.num_classes = number
    return module


def detector(**parts):
    model = nn.Module()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


class TestNumClasses:
    CLASSES = ('cat', 'dog')

    def test_stages(self):
        roi_head = detector(bbox_head=nn.ModuleList([head(2), head(80)]))
        with refused('classes-mismatch', 'model.roi_head.bbox_head.1.num_classes is 80',
                     'train dataset has 2 classes', 'num_classes=2 (and in every other stage)'):
            check_num_classes(detector(roi_head=roi_head), self.CLASSES, where='train dataset')

    def test_one_head(self):
        with refused('classes-mismatch', 'set model.bbox_head.num_classes=2,'):
            check_num_classes(detector(bbox_head=head(1)), self.CLASSES, where='train dataset')

    def test_rpn_and_semantic_heads_count_something_else(self):
        model = detector(rpn_head=head(1), roi_head=detector(
            bbox_head=nn.ModuleList([head(2)]), semantic_head=head(183)))
        check_num_classes(model, self.CLASSES, where='train dataset')

    def test_under_data_parallel(self, single_worker):
        model = detector(bbox_head=head(3))
        model.weight = nn.Parameter(torch.zeros(1))
        with refused('classes-mismatch', 'model.bbox_head.num_classes is 3'):
            check_num_classes(MMDistributedDataParallel(model), self.CLASSES, where='data')


class Runner:
    """The parts of a runner that the hook uses."""

    def __init__(self, cfg, *, num_classes=2):
        self.model = detector(bbox_head=head(num_classes))
        loaders = {split: DATASETS.build(cfg.get(f'{split}_dataloader').dataset) for split in ALL}
        for split, dataset in loaders.items():
            loader = type('Loader', (), dict(dataset=dataset))
            setattr(self, f'{split}_dataloader', loader)
        self.val_loop = object()


class TestDataCheckHook:

    def test_registered(self):
        assert isinstance(HOOKS.build(dict(type='DataCheckHook')), DataCheckHook)

    def test_silent_on_good_data(self, cfg, warnings):
        hook = DataCheckHook()
        runner = Runner(cfg)
        hook.before_train(runner)
        hook.before_test(runner)
        assert warnings == []

    def test_head_with_another_number_of_classes(self, cfg):
        with refused('classes-mismatch', 'num_classes is 80', 'train dataset has 2'):
            DataCheckHook().before_train(Runner(cfg, num_classes=80))

    def test_validation_is_checked_before_training(self, cfg):
        cfg.val_dataloader.dataset.metainfo = dict(classes=('fig', 'horse'))
        with refused('classes-mismatch', 'val dataset', 'horse'):
            DataCheckHook().before_train(Runner(cfg))

    def test_test_data(self, cfg):
        cfg.test_dataloader.dataset.metainfo = dict(classes=('horse', ))
        with refused('classes-mismatch', 'test dataset', 'horse'):
            DataCheckHook().before_test(Runner(cfg))

    @pytest.mark.parametrize('wrapper', [dict(type='RepeatDataset', times=2)])
    def test_boxes_that_mmdet_drops(self, cfg, root, warnings, wrapper):
        good = [annotation(number, number, (5, 5, 20, 20)) for number in range(4)]
        write_annotations(root / 'annotations.json', good + [
            annotation(11, 0, (5, 5, 0, 20)), annotation(12, 0, (5, 5, -4, 20)),
            annotation(13, 1, (70, 5, 9, 9))])
        cfg.train_dataloader.dataset = dict(dataset=cfg.train_dataloader.dataset, **wrapper)
        DataCheckHook().before_train(Runner(cfg))
        (level, size), (_, outside), *of_validation = warnings
        assert level == logging.WARNING and 'train dataset' in size and 'annotations.json' in size
        assert '2 boxes' in size and 'annotation 11 of ' in size and 'annotation 12 of ' in size
        assert '1 boxes' in outside and 'outside' in outside and '(annotation 13 of ' in outside
        assert [line.startswith('val dataset') for _, line in of_validation] == [True, True]

    def test_masks_that_a_pipeline_loads(self, cfg, root, warnings):
        square = [[5, 5, 25, 5, 25, 25, 5, 25]]
        good = [annotation(number, number, (5, 5, 20, 20), segmentation=square) for number in range(4)]
        write_annotations(root / 'annotations.json', good)
        cfg.train_dataloader.dataset.pipeline[1].with_mask = True
        DataCheckHook().before_train(Runner(cfg))
        assert warnings == []
        del good[2]['segmentation']
        write_annotations(root / 'annotations.json', good)
        with refused('bad-annotations', 'train dataset', "1 of 4 annotations have no 'segmentation'"):
            DataCheckHook().before_train(Runner(cfg))
        cfg.train_dataloader.dataset.pipeline[1].with_mask = False
        DataCheckHook().before_train(Runner(cfg))

    @pytest.mark.parametrize('low, high, words', [
        (0, 1023, '10 of 16 bits'), (21000, 23000, 'uint16 values from 21000 to 23000')])
    def test_values_that_8_bits_lose(self, cfg, root, warnings, low, high, words):
        for number in range(4):
            values = np.random.default_rng(number).integers(low + 9, high - 9, (64, 64), dtype=np.uint16)
            values[0, number % 2] = (low, high)[number % 2]
            cv2.imwrite(str(root / 'images' / f'{number}.png'), values)
        DataCheckHook().before_test(Runner(cfg))
        (level, line), = warnings
        assert level == logging.WARNING and 'test dataset: ' in line
        assert words in line and f'value_range=({low}, {high})' in line
        cfg.test_dataloader.dataset.pipeline[0].value_range = (low, high)
        DataCheckHook().before_test(Runner(cfg))
        assert len(warnings) == 1

    def test_said_once(self, cfg, root, warnings):
        write_annotations(root / 'annotations.json', [
            annotation(1, 0, (5, 5, 20, 20)), annotation(2, 0, (5, 5, 0, 20))])
        hook, runner = DataCheckHook(), Runner(cfg)
        hook.before_train(runner)
        hook.before_val(runner)
        hook.before_val(runner)
        assert len(warnings) == 2


@pytest.mark.parametrize('call', ['before_train_iter', 'before_val_iter', 'before_test_iter'])
def test_a_pipeline_without_its_ends(call):
    runner = SimpleNamespace(model=Mock(spec=BaseDetector))
    getattr(DataCheckHook(), call)(runner, 0, dict(inputs=[], data_samples=[]))
    with refused('bad-sample', 'LoadImageFromFile', 'PackDetInputs'):
        getattr(DataCheckHook(), call)(runner, 0, dict(img=[]))
    getattr(DataCheckHook(), call)(SimpleNamespace(model=nn.Identity()), 0, dict(inputs=[]))
