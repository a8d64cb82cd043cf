_base_ = ['../deqdet_r50_p64-32_1x_coco.py', '../../_base_/datasets/coco_test-dev.py']

test_dataloader = _base_.test_dev_dataloader
test_evaluator = dict(**_base_.test_dev_evaluator, name='deqdet_r50_p64-32_1x')
