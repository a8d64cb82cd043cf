# DEQDet and the detectors that a user would pick instead, on tree crowns, in equal training time, for
# tools/analysis/study.py. All have the same backbone, images and augmentation.
# All have the same learning rate. For Faster R-CNN 2e-3 was tried too, on `tune`: it was worse.
PEERS = {
    'stacked decoder (AdaMixer)': '../deqdet/ffndet_trees_lite0.py',
    'Faster R-CNN': '../peers/faster_rcnn_trees.py',
    'ATSS': '../peers/atss_trees.py',
    'RTMDet': '../peers/rtmdet_trees.py',
    'Deformable DETR': '../peers/deformable_detr_trees.py',
    'DINO': '../peers/dino_trees.py',
    'Sparse R-CNN': '../sparse_rcnn/sparse_rcnn_trees_lite0.py',
    'DEQ Sparse R-CNN': '../sparse_rcnn/deq_sparse_rcnn_trees_lite0.py'
}
study = dict(
    seeds=[0, 1, 2],
    report='test',
    minutes=6,
    variants=[
        dict(name='DEQDet', config='../deqdet/deqdet_trees_lite0.py'),
        *(dict(name=name, config=config) for name, config in PEERS.items())
    ])
