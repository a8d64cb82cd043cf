_base_ = '../../configs/deqdet/deqdet_r50_2x_coco.py'
