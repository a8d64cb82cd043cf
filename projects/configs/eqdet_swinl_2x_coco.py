_base_ = '../../configs/deqdet/deqdet_swinl_2x_coco.py'
