# COCO test-dev. Only COCO's server has its boxes, so the test writes detections to send there. Use it on top
# of a config with COCO's data, see configs/deqdet/test-dev.
test_dev_dataloader = dict(
    dataset=dict(
        ann_file='annotations/image_info_test-dev2017.json', data_prefix=dict(img='test2017/')))
test_dev_evaluator = dict(
    _delete_=True,
    type='CocoSubmissionMetric',
    ann_file='data/coco/annotations/image_info_test-dev2017.json')
