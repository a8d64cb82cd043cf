"""The stacked decoder, the AdaMixer baseline: the same layer without weight sharing."""

from functools import partial
from typing import Dict, List, Literal, Optional, Sequence, Union

from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor

from ...settings import Positive, checked
from ..sampling import FeaturePyramid
from ..state import DecoderState
from ..targets import Targets
from .base import MaskConfig, QueryRoIHead, layer_configs
from .prediction import PredictionSettings


@MODELS.register_module()
class FFNDetRoIHead(QueryRoIHead):
    """Stacked decoder, every stage supervised (AdaMixer, section 3.4).

    ::

        proposals -> layer 0 -> loss stage_0 -> layer 1 -> loss stage_1 -> ... -> detections

    Gradients run through the content across stages; positions are detached at each stage.

    Args:
        num_stages (int): Number of decoder layers.
        featmap_strides (Sequence[int]): Pixels of the input per feature cell, for each level.
        frozen_stages (int): The first k decoder layers stay in eval mode, without gradient.
        bbox_head (dict or list[dict]): Config of all layers, or one for each.
        match_at (str): ``'each'`` or ``'proposals'``, see :class:`DEQDetRoIHead`.
        train_cfg, test_cfg, mask_head, init_cfg, sampling: See :class:`QueryRoIHead`.
        dense_stride, encode_box, decode_box, bbox_roi_extractor, mask_roi_extractor: Accepted for
            published configs, without effect.

    Raises:
        UsageError: If the arguments do not fit together.
    """

    @checked
    def __init__(self,
                 num_stages: Positive = 6,
                 featmap_strides: Sequence[int] = (4, 8, 16, 32),
                 dense_stride: int = 4,
                 encode_box: Optional[object] = None,
                 decode_box: Optional[object] = None,
                 frozen_stages: int = 0,
                 match_at: Literal['each', 'proposals'] = 'each',
                 bbox_roi_extractor: Optional[dict] = None,
                 mask_roi_extractor: Optional[dict] = None,
                 bbox_head: Union[dict, List[dict], None] = None,
                 mask_head: MaskConfig = None,
                 train_cfg: Union[dict, List[dict], None] = None,
                 test_cfg: Optional[dict] = None,
                 init_cfg: Optional[dict] = None,
                 sampling: str = 'auto') -> None:
        layers = layer_configs(bbox_head, (1, num_stages), name=f'FFNDetRoIHead of {num_stages} stages')
        if len(layers) == 1:
            layers = layers * num_stages
        super().__init__(
            featmap_strides=featmap_strides, frozen_stages=frozen_stages, bbox_head=layers,
            train_cfg=train_cfg, test_cfg=test_cfg, mask_head=mask_head, sampling=sampling,
            init_cfg=init_cfg)
        self.match_at = match_at
        if match_at == 'proposals':
            self.check_matches_proposals()

    def state_losses(self, pyramid: FeaturePyramid, state: DecoderState, targets: Targets,
                     features: Sequence[Tensor]) -> Dict[str, Tensor]:
        """Supervise the state of every stage (keys ``stage_{i}loss_*``)."""
        losses, masks = {}, self.mask_supervision(features, targets)
        pairs = self.pairs_of_proposals(state, targets) if self.match_at == 'proposals' else None
        for stage, layer in enumerate(self.bbox_head):
            state = self.apply_layer(stage, pyramid, state)
            losses.update(self.criterion(layer, state, targets, f'stage_{stage}', features,
                                         partial(masks.add, stage), pairs))
        return {**losses, **masks.losses()}

    def decode(self, pyramid: FeaturePyramid, state: DecoderState, batch_data_samples: SampleList, *,
               settings: Optional[PredictionSettings] = None) -> DecoderState:
        """Apply all stages; the settings are used only for the selection afterwards."""
        for stage in range(len(self.bbox_head)):
            state = self.apply_layer(stage, pyramid, state)
        return state
