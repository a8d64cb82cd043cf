"""Local masks: a small map inside each box, from features around it (QueryInst)."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmcv.ops import roi_align
from mmdet.models.roi_heads.mask_heads import DynamicMaskHead
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, mask_target
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from ...dtypes import widened
from ...errors import UsageError
from ..targets import Targets
from .head import MaskHead, Matched, blocks, mean_probability, output_shape, true_masks

_EXTRACTOR = dict(
    type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2),
    out_channels=256, featmap_strides=[4, 8, 16, 32])
# The head applies the sigmoid.
_DICE = dict(type='DiceLoss', loss_weight=8.0, use_sigmoid=True, activate=False, eps=1e-5)

# Detections whose masks are computed at once.
_BLOCK = 16


@MODELS.register_module()
class WarpedEfficientDynamicMaskHead(MaskHead, DynamicMaskHead):
    """Masks inside the boxes (Fang et al., Instances as Queries, ICCV 2021, section 3).

    ::

        features, box -> RoIAlign -> dynamic convolution with the content -> convolutions -> x2 -> K maps

    The dynamic convolution uses the first ``in_channels`` values of the content.

    Args:
        mask_roi_extractor (dict, optional): RoI extractor, by default RoIAlign of 14 x 14 from levels of
            stride 4 to 32 with 256 channels.
        loss_dice (dict, optional): Loss of probabilities, by default Dice of weight 8.
        loss_mask (dict, optional): Accepted for published configs, without effect.
        **kwargs: Of mmdet's ``DynamicMaskHead``: ``num_convs``, ``roi_feat_size``, ``in_channels``,
            ``conv_out_channels``, ``num_classes``, ``dynamic_conv_cfg``, ...
    """

    loss_names = ('loss_dice', )

    def __init__(self, *args: Any, mask_roi_extractor: Optional[dict] = None,
                 loss_mask: Optional[dict] = None, loss_dice: Optional[dict] = None, **kwargs: Any) -> None:
        # mmdet has one loss and calls it `loss_mask`.
        super().__init__(*args, loss_mask=loss_dice or _DICE, **kwargs)
        self.mask_roi_extractor = MODELS.build(mask_roi_extractor or _EXTRACTOR)

    def check(self, layer: Any, strides: Optional[Sequence[int]], *, name: str) -> None:
        """See :meth:`MaskHead.check`."""
        if self.num_classes != layer.num_classes:
            raise UsageError(f'{name}: num_classes={self.num_classes} and bbox_head num_classes='
                             f'{layer.num_classes} must be equal', 'settings-mismatch')
        width = getattr(layer, 'content_dim', None) or layer.in_channels
        if self.in_channels > width:
            raise UsageError(f'{name}: in_channels={self.in_channels} must be at most the width of the '
                             f'contents, {width}', 'settings-mismatch')
        channels, extracted = getattr(layer, 'feat_channels', None), self.mask_roi_extractor.out_channels
        if extracted != self.in_channels or channels is not None and extracted != channels:
            raise UsageError(
                f'{name}: mask_roi_extractor.out_channels={extracted}, in_channels={self.in_channels} and '
                f'the channels of the features, {channels or extracted}, must be equal', 'settings-mismatch')
        for key in ('in_channels', 'out_channels'):
            its = getattr(self.instance_interactive_conv, key)
            if its != self.in_channels:
                raise UsageError(f'{name}: dynamic_conv_cfg.{key}={its} and in_channels={self.in_channels} '
                                 'must be equal', 'settings-mismatch')
        found = self.mask_roi_extractor.featmap_strides
        if strides is not None and list(found) != list(strides)[:len(found)]:
            raise UsageError(f'{name}: mask_roi_extractor.featmap_strides={list(found)} must be the first '
                             f'levels of featmap_strides={list(strides)}', 'settings-mismatch')

    def roi_features(self, features: Sequence[Tensor], image: Tensor, box: Tensor) -> Tensor:
        """Features around boxes.

        Args:
            features (Sequence[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l).
            image (Tensor): Index of each box's image, has shape (P,).
            box (Tensor): Boxes in pixels of the network's input, has shape (P, 4).

        Returns:
            Tensor: Has shape (P, C_f, s, s), in float32 or float64.
        """
        rois = torch.cat([image[:, None].to(box), box], dim=-1)
        # Half precision is too coarse for the coordinates, and RoIAlign needs one type for all inputs.
        levels = [widened(level) for level in features[:self.mask_roi_extractor.num_inputs]]
        return self.mask_roi_extractor(levels, rois)

    def maps(self, roi_features: Tensor, content: Tensor) -> Tensor:
        """Logits of all classes inside the boxes.

        Args:
            roi_features (Tensor): See :meth:`roi_features`.
            content (Tensor): Contents, has shape (P, C).

        Returns:
            Tensor: Has shape (P, K, S, S), in float32 or float64.
        """
        return widened(self(roi_features, content[:, :self.in_channels]))

    def losses(self, features: Sequence[Tensor], matched: Matched, targets: Targets
               ) -> List[Dict[str, Tensor]]:
        """``loss_dice``, see :meth:`MaskHead.losses`; no gradient runs through the boxes."""
        masks, size = true_masks(targets), self.settings.mask_size
        true = matched.box.new_empty((len(matched.box), size, size))
        for image, of_image in enumerate(masks):
            its = matched.image == image
            true[its] = _cropped(of_image, matched.target[its], matched.box[its], size)
        aligned = self.roi_features(features, matched.image, matched.box)
        found = []
        # One state after the other, because a norm may use statistics of its input.
        for roi, content, label, truth, normaliser in zip(
                *map(matched.by_state, (aligned, matched.content, matched.label, true)), matched.normalisers):
            logits = self.maps(roi, content)[torch.arange(len(label), device=label.device), label]
            if logits.shape[-1] != size:
                raise UsageError(f'train_cfg.rcnn.mask_size={size} must be {logits.shape[-1]}, the side of '
                                 'the maps of mask_head', 'settings-mismatch')
            with torch.autocast(logits.device.type, enabled=False):
                found.append(dict(loss_dice=self.loss_mask(logits.sigmoid(), truth, avg_factor=normaliser)))
        return found

    def predict(self, features: Sequence[Tensor], content: Tensor, box: Tensor, labels: Tensor, meta: dict, *,
                rescale: bool, threshold: float) -> Tuple[Tensor, Tensor]:
        """Probabilities of the detected class, pasted into the image, see :meth:`MaskHead.predict`."""
        shape = output_shape(meta, rescale=rescale)
        found = labels.new_zeros((len(labels), *shape), dtype=torch.bool)
        scores = box.new_zeros(len(labels))
        scale = box.new_tensor(meta.get('scale_factor', (1.0, 1.0)) if rescale else (1.0, 1.0))
        on_output = box / scale[:2].repeat(2)
        # mmdet fails for boxes outside the image.
        inside = ((on_output[:, 2:] > 0) & (on_output[:, :2] < box.new_tensor(shape[::-1]))).all(-1)
        for part in blocks(inside.nonzero().flatten(), _BLOCK):
            logits = self.maps(self.roi_features(features, torch.zeros_like(part), box[part]), content[part])
            # mmdet pastes in float32, and divides the boxes in place.
            pasted = InstanceData(bboxes=on_output[part].float(), labels=labels[part])
            view = dict(ori_shape=shape, scale_factor=(1.0, 1.0))
            self.predict_by_feat((logits.float(), ), [pasted], [view], ConfigDict(mask_thr_binary=threshold),
                                 rescale=True)
            found[part] = pasted.masks
            scores[part] = mean_probability(logits[torch.arange(len(part)), labels[part]], threshold)
        return found, scores


def _cropped(masks: Any, target: Tensor, box: Tensor, size: int) -> Tensor:
    """True masks of an image inside boxes, 0 or 1, has shape (P, size, size); mmdet's ``mask_target``.

    Of bitmaps, mmdet makes a copy for each box, although several states share the same objects.
    """
    if not isinstance(masks, BitmapMasks):
        return mask_target([box.clone()], [target], [masks], ConfigDict(mask_size=size)).to(box)
    limits = box.new_tensor([masks.width, masks.height] * 2)
    rois = torch.cat([target[:, None].to(box), box.clamp(min=0).minimum(limits)], dim=-1)
    whole = torch.from_numpy(masks.masks).to(box)[:, None]
    return (roi_align(whole, rois, (size, size), 1.0, 0, 'avg', True)[:, 0] >= 0.5).to(box)
