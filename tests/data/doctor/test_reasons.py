"""The claims of findings about mmdet and pycocotools are true."""

import pytest
import torch
from data.doctor import faults
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS


def dataset(pets, split):
    pets.write()
    return DATASETS.build(pets.cfg[f'{split}_dataloader'].dataset)


def metrics_of_a_perfect_detector(pets, path=None):
    """COCO's metrics for detections that equal the annotations of the validation set."""
    pets.write()
    metric = CocoMetric(ann_file=str(path or pets.root / 'val.json'), classwise=True)
    metric.dataset_meta = dict(classes=('cat', 'dog', 'cow'))
    labels = {category['id']: label for label, category in enumerate(pets.val['categories'])}
    for image in pets.val['images']:
        own = [each for each in pets.val['annotations']
               if each['image_id'] == image['id'] and not each.get('iscrowd')]
        boxes = torch.tensor([each['bbox'] for each in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = dict(bboxes=boxes, scores=torch.ones(len(own)), labels=torch.tensor(
            [labels[each['category_id']] for each in own], dtype=torch.long))
        shape = image['height'], image['width']
        metric.process({}, [dict(img_id=image['id'], ori_shape=shape, pred_instances=found)])
    return metric.evaluate(len(pets.val['images']))


def test_mmdet_numbers_classes_as_the_file_does(pets):
    faults.files_in_another_order(pets)
    train, val = (dataset(pets, split) for split in ('train', 'val'))
    assert train.metainfo['classes'] == val.metainfo['classes'] == ('cat', 'dog', 'cow')
    assert train.cat2label == {3: 0, 5: 1, 90: 2}
    assert val.cat2label == {90: 0, 5: 1, 3: 2}


def test_a_perfect_detector(pets):
    assert metrics_of_a_perfect_detector(pets)['coco/bbox_mAP'] == 1


def test_the_object_with_id_zero_is_missed(pets):
    faults.annotation_with_id_zero(pets)
    assert metrics_of_a_perfect_detector(pets)['coco/bbox_mAP'] < 1


def test_evaluation_fails_without_iscrowd(pets):
    faults.no_iscrowd(pets)
    with pytest.raises(KeyError, match='iscrowd'):
        metrics_of_a_perfect_detector(pets)


def test_evaluation_refuses_images_of_another_file(pets):
    with pytest.raises(AssertionError, match='do not correspond'):
        metrics_of_a_perfect_detector(pets, pets.root / 'train.json')


@pytest.mark.parametrize('plant, error', [
    (faults.no_area, KeyError), (faults.annotation_id_twice, AssertionError),
    (faults.annotation_without_id, KeyError)])
def test_mmdet_refuses_the_file(pets, plant, error):
    plant(pets)
    with pytest.raises(error):
        dataset(pets, 'train')
