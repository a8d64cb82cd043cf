# The stacked decoder, the AdaMixer baseline, with Swin-L and 300 queries.
_base_ = './deqdet_swinl.py'

model = dict(
    roi_head=dict(
        _delete_=True, type='FFNDetRoIHead', num_stages=6, bbox_head=_base_.decoder_layer))
