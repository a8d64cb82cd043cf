# The stacked decoder on tree crowns: six layers instead of the equilibrium.
_base_ = './deqdet_trees_lite0.py'

model = dict(
    roi_head=dict(
        _delete_=True,
        type='FFNDetRoIHead',
        num_stages=6,
        match_at='proposals',
        bbox_head=_base_.decoder_layer))
