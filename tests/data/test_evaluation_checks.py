"""An evaluation that cannot give a number is refused before training, with the reason."""

import json

import pytest
from data.tiny_coco import annotation, write_annotations, write_config, write_dataset
from deqdet.data.checks import check_files
from deqdet.data.split_checks import data_findings
from mmengine.config import Config
from refusals import refused

BOX = (8, 8, 24, 24)


@pytest.fixture
def root(tmp_path):
    root = write_dataset(tmp_path / 'data')
    write_annotations(root / 'val.json', [annotation(number + 1, number, BOX, number % 2 + 1)
                                          for number in range(3)])
    return root


@pytest.fixture
def cfg(tmp_path, root):
    cfg = Config.fromfile(write_config(tmp_path / 'config.py', root))
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset.ann_file = 'val.json'
        cfg[f'{split}_evaluator'].ann_file = str(root / 'val.json')
    return cfg


def change(root, images=None, annotations=None):
    """Set values in all images, or all annotations, of the validation set."""
    data = json.loads((root / 'val.json').read_text())
    for part, values in (('images', images), ('annotations', annotations)):
        for record in data[part]:
            record.update({key: value(record) if callable(value) else value
                           for key, value in (values or {}).items()})
    (root / 'val.json').write_text(json.dumps(data))


def refusal(cfg, *splits):
    with refused('bad-annotations', 'val.json', 'AP would be -1') as caught:
        check_files(cfg, splits)
    return caught.value.message


@pytest.mark.parametrize('images, annotations, why', [
    (dict(id=lambda image: str(image['id'])), None,
     "id '0' and an annotation the image_id 0:"),
    (None, dict(image_id=lambda each: str(each['image_id'])),
     "id 0 and an annotation the image_id '0':"),
    (None, dict(image_id=77), 'image_id'),
    (None, dict(iscrowd=1), 'iscrowd=1'),
    (None, dict(ignore=1), 'ignore=1'),
    (None, dict(area=-1), "their 'area' is negative"),
    (None, dict(category_id=9), 'category_id')])
def test_no_object_that_counts(cfg, root, images, annotations, why):
    change(root, images, annotations)
    assert '3 annotations' in (line := refusal(cfg, 'train', 'val')) and why in line.partition('because')[2]
    refusal(cfg, 'test')


def test_all_objects_of_other_classes(cfg, root):
    write_annotations(root / 'val.json', [annotation(1, 0, BOX, 3)], names=('fig', 'kiwi', 'pear'))
    assert 'category_id' in refusal(cfg, 'val')


@pytest.mark.parametrize('indices', [-1, [3]])
def test_all_objects_in_images_that_are_left_out(cfg, indices):
    cfg.val_dataloader.dataset.indices = indices
    assert 'other images than the 1 of the data set' in refusal(cfg, 'val')
    check_files(cfg, ('test', ))


def test_objects_of_the_data_set_itself(cfg, root):
    """Without ann_file the evaluator uses the objects of the data set, which drops those with zero area."""
    change(root, annotations=dict(area=0))
    check_files(cfg, ('val', ))
    cfg.val_evaluator.ann_file = None
    assert "their 'area' is zero or less" in refusal(cfg, 'val')
    cfg.val_evaluator = dict(type='VOCMetric', metric='mAP')
    assert "their 'area' is zero or less" in refusal(cfg, 'val')


def test_several_data_sets(cfg, root):
    data = cfg.val_dataloader.dataset
    write_annotations(root / 'empty.json', [{**annotation(1, 0, BOX), "iscrowd": 1}])
    both = [data, dict(data, ann_file='empty.json')]
    cfg.val_dataloader.dataset = dict(type='ConcatDataset', datasets=both)
    metric = dict(type='CocoMetric', ann_file=str(root / 'empty.json'))
    cfg.val_evaluator = dict(type='MultiDatasetsEvaluator', metrics=[cfg.val_evaluator, metric],
                             dataset_prefixes=['a', 'b'])
    with refused('bad-annotations', 'val_evaluator.metrics.1, ', 'empty.json', 'iscrowd=1'):
        check_files(cfg, ('val', ))
    cfg.val_evaluator.metrics[1] = dict(metric, ann_file='gone.json')
    with refused('missing-file', 'val_evaluator.metrics.1.ann_file', 'gone.json'):
        check_files(cfg, ('val', ))
    cfg.val_evaluator = cfg.val_evaluator.metrics[0]
    check_files(cfg, ('val', ))


def test_ids_that_are_equal_numbers(cfg, root):
    change(root, annotations=dict(image_id=lambda each: float(each['image_id'])))
    check_files(cfg, ('train', 'val'))


def test_an_evaluator_that_only_writes(cfg, root):
    change(root, annotations=dict(iscrowd=1))
    cfg.val_evaluator.update(format_only=True, outfile_prefix='results')
    check_files(cfg, ('val', ))


def test_images_that_are_not_evaluated_are_counted(cfg):
    cfg.val_dataloader.dataset.indices = 1
    note, = (each for each in data_findings(cfg, ('val', )) if each.grade == 'note')
    assert note.check == 'evaluator-images' and '3 of 4 images' in note.line
