# The stacked decoder with region queries on the demo's data: six layers instead of the equilibrium.
_base_ = './deqdet_digits_region-queries.py'

model = dict(
    roi_head=dict(
        _delete_=True,
        type='FFNDetRoIHead',
        num_stages=6,
        match_at='proposals',
        bbox_head=_base_.decoder_layer))
