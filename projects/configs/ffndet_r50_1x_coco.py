_base_ = '../../configs/deqdet/ffndet_r50_1x_coco.py'
