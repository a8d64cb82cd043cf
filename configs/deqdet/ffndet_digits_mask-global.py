# The stacked decoder with the masks of deqdet_digits_mask-global.py: six layers instead of the equilibrium.
_base_ = './deqdet_digits_mask-global.py'

model = dict(
    roi_head=dict(
        _delete_=True,
        type='FFNDetRoIHead',
        num_stages=6,
        bbox_head=_base_.decoder_layer,
        mask_head=_base_.global_masks))
