_base_ = '../../configs/deqdet/deqdet_swinl_1x_coco_decoder512.py'
