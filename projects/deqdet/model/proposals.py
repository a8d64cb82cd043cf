"""The initial queries of the decoder."""

import math
from typing import Annotated, List, Literal, Optional

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import EmbeddingRPNHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmdet.utils import InstanceList
from pydantic import Field
from torch import Tensor, nn

from ..settings import Positive, checked

Start = Annotated[Literal['image', 'grid'], Field(description="'image' or 'grid'")]


@MODELS.register_module()
class FixPositionEmbeddingRPNHead(EmbeddingRPNHead):
    """Learned contents with fixed boxes: each query starts with the whole image, or with its own part of it.

    Args:
        num_proposals (int): Number of queries N.
        proposal_feature_channel (int): Width C of the contents.
        frozen (bool): Freeze the contents too.
        start (str): ``'image'``, the published form: all boxes are the whole image. ``'grid'``: the centres
            of the boxes are on a regular grid, from left to right and from top to bottom, and a box overlaps
            half of the next one. Useful with little data, since contents need not learn who looks where.
        train_cfg, test_cfg, num_classes: Arguments from mmdet's two-stage detectors, not used.
    """

    @checked
    def __init__(self,
                 num_proposals: Positive = 100,
                 proposal_feature_channel: Positive = 256,
                 frozen: bool = False,
                 start: Start = 'image',
                 train_cfg: Optional[dict] = None,
                 test_cfg: Optional[dict] = None,
                 num_classes: Optional[int] = None) -> None:
        super().__init__(
            num_proposals=num_proposals, proposal_feature_channel=proposal_feature_channel)
        self.init_proposal_bboxes.weight.requires_grad_(False)
        self.init_proposal_features.weight.requires_grad_(not frozen)
        self.start = start
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Contents N(0, 1), and boxes."""
        nn.init.normal_(self.init_proposal_features.weight)
        self.init_weights()

    def init_weights(self) -> None:
        """Boxes (cx, cy, w, h) of the whole image, (0.5, 0.5, 1, 1), or of a grid; contents stay."""
        boxes = torch.tensor([0.5, 0.5, 1.0, 1.0])
        if self.start == 'grid':
            boxes = bbox_xyxy_to_cxcywh(grid_boxes(self.num_proposals))
        with torch.no_grad():
            self.init_proposal_bboxes.weight.copy_(boxes)

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


def grid_boxes(count: int) -> Tensor:
    """Boxes on a grid of about as many rows as columns; a box overlaps half of the next one.

    Args:
        count (int): Number of boxes.

    Returns:
        Tensor: (x1, y1, x2, y2) as shares of the image, row by row, has shape (count, 4).
    """
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    number = torch.arange(count)
    boxes = torch.stack([(number % columns + 0.5) / columns,
                         (torch.div(number, columns, rounding_mode='floor') + 0.5) / rows,
                         torch.full((count,), min(1.0, 2 / columns)),
                         torch.full((count,), min(1.0, 2 / rows))], dim=1)
    return bbox_cxcywh_to_xyxy(boxes)
