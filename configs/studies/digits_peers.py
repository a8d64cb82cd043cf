# DEQDet and the detectors that a user would pick instead, on handwritten digits, in equal training time, for
# tools/analysis/study.py. All have the same backbone, images and augmentation.
PEERS = {
    'stacked decoder (AdaMixer)': '../deqdet/ffndet_digits.py',
    'Faster R-CNN': '../peers/faster_rcnn_digits.py',
    'ATSS': '../peers/atss_digits.py',
    'RTMDet': '../peers/rtmdet_digits.py',
    'Deformable DETR': '../peers/deformable_detr_digits.py',
    'DINO': '../peers/dino_digits.py',
    'Sparse R-CNN': '../sparse_rcnn/sparse_rcnn_digits.py',
    'DEQ Sparse R-CNN': '../sparse_rcnn/deq_sparse_rcnn_digits.py'
}
study = dict(
    seeds=[0, 1, 2],
    report='test',
    minutes=4,
    variants=[
        dict(name='DEQDet', config='../deqdet/deqdet_digits.py'),
        *(dict(name=name, config=config) for name, config in PEERS.items())
    ])
