_base_ = '../../configs/deqdet/deqdet_r50_1x_coco.py'
