# Mask heads and decoders on the digits, and mmdet's detectors with masks, for tools/analysis/study.py.
# All trainings take the time of the first within 10 %, those with global masks take 0.7 of it. The numbers of
# epochs come from the seconds of a training step, measured one after the other on one thread.
study = dict(
    seeds=[0, 1, 2],
    variants=[
        dict(name='DEQDet, local', config='../deqdet/deqdet_digits_mask-local.py'),
        dict(name='stacked, local', config='../deqdet/ffndet_digits_mask-local.py'),
        dict(name='DEQDet, global', config='../deqdet/deqdet_digits_mask-global.py'),
        dict(
            name='DEQDet, global as published',
            config='../deqdet/deqdet_digits_mask-global.py',
            options={'model.roi_head.mask_head.position': False}),
        dict(name='Mask R-CNN', config='../peers/mask_rcnn_digits.py'),
        dict(name='QueryInst', config='../peers/queryinst_digits.py', epochs=6),
    ])
