_base_ = '../../configs/deqdet/ffndet_swinl_2x_coco.py'
