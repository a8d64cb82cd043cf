"""What the heads share: detections of a decoded batch, and its masks."""

from typing import Optional, Sequence

from mmdet.utils import InstanceList
from mmengine.model import ModuleList
from mmengine.structures import InstanceData
from torch import Tensor

from ..masks import MaskHead, MaskSupervision
from ..selection import select_detections, select_queries
from ..state import AnyState
from ..targets import Targets
from .prediction import PredictionSettings, PredictsWithSettings


class SelectsDetections(PredictsWithSettings):
    """Mixin of the heads: selects the detections of decoded states, and has their mask heads.

    Attributes:
        mask_head (ModuleList): A mask head for each decoder layer; missing without masks.
        with_mask (bool): Whether the head has masks.
    """

    mask_head: ModuleList
    with_mask: bool

    def mask_head_of(self, layer: int) -> Optional[MaskHead]:
        """The mask head of a decoder layer, or None."""
        return self.mask_head[layer] if self.with_mask else None

    def mask_supervision(self, features: Sequence[Tensor], targets: Targets) -> MaskSupervision:
        """Collects the states of a batch for the mask losses; without masks there are none."""
        return MaskSupervision(self.mask_head if self.with_mask else None, features, targets)

    def select_all(self, features: Sequence[Tensor], state: AnyState, metas: Sequence[dict], rescale: bool,
                   settings: PredictionSettings, *, layer: int = -1) -> InstanceList:
        """Detections of each image of a decoded batch.

        Args:
            features (Sequence[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l); used for masks.
            state (DecoderState or BoxState): The decoded state, with logits.
            metas (Sequence[dict]): Meta information of each image.
            rescale (bool): Return boxes and masks of the original image.
            settings (PredictionSettings): Settings of the call.
            layer (int): The decoder layer that computed the state.

        Returns:
            list[:obj:`InstanceData`]: ``scores``, has shape (D,), sorted; ``labels``, has shape (D,);
            ``bboxes`` (x1, y1, x2, y2), has shape (D, 4), not clipped; with a mask head ``masks``, booleans,
            has shape (D, H, W), and with ``mask_scores`` in the settings ``mask_scores``, has shape (D,).
        """
        assert state.logits is not None  # every layer outputs them
        results = []
        for image, (logits, box, content, meta) in enumerate(
                zip(state.logits, state.box, state.content, metas)):
            chosen = select_queries(logits, box, **settings.selection)
            found = chosen.detections(box, meta, rescale=rescale)
            mask_head = self.mask_head_of(layer)
            if mask_head is not None:
                found.masks, quality = mask_head.predict(
                    [level[image:image + 1] for level in features], content[chosen.query], box[chosen.query],
                    chosen.label, meta, rescale=rescale, threshold=settings.mask_thr_binary)
                if settings.mask_scores:
                    found.mask_scores = found.scores * quality
            results.append(found)
        return results

    def select(self, logits: Tensor, box: Tensor, meta: dict, rescale: bool, *,
               settings: Optional[PredictionSettings] = None) -> InstanceData:
        """Detections of one image without masks, see :func:`select_detections`."""
        return select_detections(
            logits, box, meta, rescale=rescale, **self.settings_or_own(settings).selection)
