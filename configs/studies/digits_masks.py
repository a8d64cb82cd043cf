# Mask heads and decoders on the digits, and mmdet's detectors with masks, for tools/analysis/study.py.
# All trainings take the time of the first within 10 %, that with global masks takes 0.7 of it. The numbers of
# epochs come from the seconds of a training step, measured one after the other on one thread.


def epochs(number):
    return {
        'train_cfg.max_epochs': number, 'train_cfg.val_interval': number, 'param_scheduler.1.T_max': number,
        'param_scheduler.1.end': number
    }


study = dict(
    seeds=[0, 1, 2],
    variants=[
        dict(name='DEQDet, local', config='../deqdet/deqdet_digits_mask-local.py'),
        dict(name='stacked, local', config='../deqdet/ffndet_digits_mask-local.py'),
        dict(name='DEQDet, global', config='../deqdet/deqdet_digits_mask-global.py'),
        dict(name='Mask R-CNN', config='../peers/mask_rcnn_digits.py'),
        dict(name='QueryInst', config='../peers/queryinst_digits.py', options=epochs(6)),
    ])
