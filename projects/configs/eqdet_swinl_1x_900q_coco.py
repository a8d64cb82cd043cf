_base_ = '../../configs/deqdet/deqdet_swinl_1x_900q_coco.py'
