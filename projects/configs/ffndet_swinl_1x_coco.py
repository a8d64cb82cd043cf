_base_ = '../../configs/deqdet/ffndet_swinl_1x_coco.py'
