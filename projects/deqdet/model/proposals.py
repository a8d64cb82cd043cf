"""The initial queries of the decoder."""

from typing import List, Optional

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import EmbeddingRPNHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor, nn

from ..settings import Positive, checked


@MODELS.register_module()
class FixPositionEmbeddingRPNHead(EmbeddingRPNHead):
    """Learned contents with fixed boxes: each query starts with the whole image.

    Args:
        num_proposals (int): Number of queries N.
        proposal_feature_channel (int): Width C of the contents.
        frozen (bool): Freeze the contents too.
        train_cfg, test_cfg, num_classes: Arguments from mmdet's two-stage detectors, not used.
    """

    @checked
    def __init__(self,
                 num_proposals: Positive = 100,
                 proposal_feature_channel: Positive = 256,
                 frozen: bool = False,
                 train_cfg: Optional[dict] = None,
                 test_cfg: Optional[dict] = None,
                 num_classes: Optional[int] = None) -> None:
        super().__init__(
            num_proposals=num_proposals, proposal_feature_channel=proposal_feature_channel)
        self.init_proposal_bboxes.weight.requires_grad_(False)
        self.init_proposal_features.weight.requires_grad_(not frozen)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Contents N(0, 1), boxes (cx, cy, w, h) = (0.5, 0.5, 1, 1)."""
        nn.init.normal_(self.init_proposal_features.weight)
        with torch.no_grad():
            self.init_proposal_bboxes.weight.copy_(torch.tensor([0.5, 0.5, 1.0, 1.0]))

    def _decode_init_proposals(self, x: List[Tensor],
                               batch_data_samples: SampleList) -> InstanceList:
        """Place the proposals in each image.

        Args:
            x (list[Tensor]): Features, not used.
            batch_data_samples (list[:obj:`DetDataSample`]): Their ``img_shape`` scales the boxes.

        Returns:
            list[:obj:`InstanceData`]: ``bboxes`` (x1, y1, x2, y2) in pixels, has shape (N, 4);
            ``features``, layer-normalised without affine parameters, has shape (N, C);
            ``imgs_whwh``, has shape (N, 4).
        """
        # mmdet gives sizes the precision of the features, which may be half precision.
        results = super()._decode_init_proposals([self.init_proposal_bboxes.weight], batch_data_samples)
        content = self.init_proposal_features.weight
        for result in results:
            result.features = F.layer_norm(content, content.shape[-1:])
        return results
