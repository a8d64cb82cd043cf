_base_ = '../../configs/deqdet/deqdet_swinl_2x_900q_coco.py'
