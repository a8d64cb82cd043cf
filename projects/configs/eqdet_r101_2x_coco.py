_base_ = '../../configs/deqdet/deqdet_r101_2x_coco.py'
