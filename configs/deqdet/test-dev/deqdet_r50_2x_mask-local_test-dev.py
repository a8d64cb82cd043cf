_base_ = ['../deqdet_r50_2x_coco_mask-local.py', '../../_base_/datasets/coco_test-dev.py']

test_dataloader = _base_.test_dev_dataloader
test_evaluator = dict(
    **_base_.test_dev_evaluator, name='deqdet_r50_2x_mask-local', metric=['bbox', 'segm'])
