_base_ = '../../configs/deqdet/deqdet_swins_2x_coco.py'
