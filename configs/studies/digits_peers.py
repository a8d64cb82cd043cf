# DEQDet and the detectors that a user would pick instead, on handwritten digits, in equal training time, for
# tools/analysis/study.py. All have the same backbone, images and augmentation.
#
# Rates given here were better than those of the configs: AP on the validation images after two epochs, two
# rates each. RTMDet kept its own. The others had one. DEQDet had many more tries with other settings.
DEQ = '../deqdet/deqdet_digits'
PEERS = {
    'DEQDet, published form': (f'{DEQ}.py', None),
    'stacked decoder (AdaMixer)': ('../deqdet/ffndet_digits_region-queries.py', None),
    'Faster R-CNN': ('../peers/faster_rcnn_digits.py', 2e-3),
    'ATSS': ('../peers/atss_digits.py', 2e-3),
    'RTMDet': ('../peers/rtmdet_digits.py', None),
    'Deformable DETR': ('../peers/deformable_detr_digits.py', 1e-3),
    'DINO': ('../peers/dino_digits.py', 6e-4),
    'Sparse R-CNN': ('../sparse_rcnn/sparse_rcnn_digits.py', None),
    'DEQ Sparse R-CNN': ('../sparse_rcnn/deq_sparse_rcnn_digits.py', None)
}
study = dict(
    seeds=[0, 1, 2],
    report='test',
    minutes=4,
    variants=[
        dict(name='DEQDet', config=f'{DEQ}_region-queries.py'),
        *(dict(name=name, config=config, options={'optim_wrapper.optimizer.lr': rate} if rate else {})
          for name, (config, rate) in PEERS.items())
    ])
