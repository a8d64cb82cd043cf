# The stacked decoder on the nuclei: six layers instead of the equilibrium.
_base_ = './deqdet_nuclei_mask-local.py'

model = dict(
    roi_head=dict(
        _delete_=True,
        type='FFNDetRoIHead',
        num_stages=6,
        bbox_head=_base_.decoder_layer,
        mask_head=_base_.mask_head))
