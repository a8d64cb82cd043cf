# The stacked decoder, the AdaMixer baseline.
_base_ = './deqdet_r50_1x_coco.py'

model = dict(
    roi_head=dict(
        _delete_=True, type='FFNDetRoIHead', num_stages=6, bbox_head=_base_.decoder_layer))
