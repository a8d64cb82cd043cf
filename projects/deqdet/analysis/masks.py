"""Masks of the detections of one image, at every number of refinements."""

import math
from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..inference.masks import RLE, encode_masks
from ..model.masks import MaskHead
from ..model.state import AnyState

# Pixels of masks that are in memory at once while they are encoded.
_BLOCK = 2 ** 26


@dataclass(frozen=True, eq=False)
class FollowedMasks:
    """What the masks on a path need. A mask is computed when it is asked for, because most are never shown.

    Attributes:
        heads (tuple[MaskHead, MaskHead]): That of the initialisation layer, and that of the refinements.
        features (list[Tensor]): Feature levels of the image on the CPU, has shape (1, C_f, H_l, W_l).
        contents (list[Tensor]): Contents after 0 to T refinements, on the CPU, has shape (N, C).
        boxes (list[Tensor]): Boxes in pixels of the network's input, like ``contents``, has shape (N, 4).
        meta (dict): Meta information of the image.
        shape (tuple[int, int]): Height and width of the original image.
        threshold (float): Probability above which a pixel belongs to the object.
        device (torch.device): Where to compute.
    """

    heads: Tuple[MaskHead, MaskHead]
    features: Sequence[Tensor]
    contents: Sequence[Tensor]
    boxes: Sequence[Tensor]
    meta: dict
    shape: Tuple[int, int]
    threshold: float
    device: torch.device

    @classmethod
    def of(cls, head: Any, features: Sequence[Tensor], states: Sequence[AnyState], meta: dict,
           shape: Sequence[int]) -> Optional['FollowedMasks']:
        """The masks of a path of one image; None if the decoder has none.

        Args:
            head (nn.Module): The decoder. Its settings of this moment are used.
            features (Sequence[Tensor]): Feature levels, has shape (1, C_f, H_l, W_l).
            states (Sequence[AnyState]): The states after 0 to T refinements.
            meta (dict): Meta information of the image.
            shape (Sequence[int]): Height and width of the original image.
        """
        first, last = head.mask_head_of(0), head.mask_head_of(-1)
        if first is None or last is None:
            return None
        return cls(
            heads=(first, last), features=[level.cpu() for level in features],
            contents=[state.content[0].cpu() for state in states],
            boxes=[state.box[0].cpu() for state in states],
            meta=meta, shape=(shape[0], shape[1]), threshold=head.prediction.mask_thr_binary,
            device=features[0].device)

    @torch.no_grad()
    def compute(self, refinements: int, found: InstanceData, shape: Optional[Sequence[int]] = None) -> Tensor:
        """Masks of detections.

        Args:
            refinements (int): 0 to T.
            found (:obj:`InstanceData`): D detections after these refinements, with ``queries`` and
                ``labels``.
            shape (Sequence[int], optional): Height and width of the masks, which then show the whole image at
                this size; by default that of the image.

        Returns:
            Tensor: Booleans on the CPU, has shape (D, H, W).
        """
        height, width = shape or self.shape
        across, down = self.meta.get('scale_factor', (1.0, 1.0))[:2]
        meta = dict(self.meta, ori_shape=(height, width), scale_factor=(
            across * (self.shape[1] / width), down * (self.shape[0] / height)))
        content, box = (part[refinements][found.queries].to(self.device)
                        for part in (self.contents, self.boxes))
        masks, _ = self.heads[min(refinements, 1)].predict(
            [level.to(self.device) for level in self.features], content, box, found.labels.to(self.device),
            meta, rescale=True, threshold=self.threshold)
        return masks.cpu()

    def encode(self, refinements: int, found: InstanceData) -> List[RLE]:
        """Masks of detections in COCO's run-length encoding.

        See :meth:`compute` for the arguments. Few masks are in memory at once.
        """
        block = max(1, _BLOCK // math.prod(self.shape))
        encoded = []
        for part in (found[first:first + block] for first in range(0, len(found), block)):
            part.masks = self.compute(refinements, part)
            encoded += encode_masks(part).masks
        return encoded
