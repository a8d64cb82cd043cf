"""Queries that start at the proposals of a region proposal network."""

from typing import Any, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..dtypes import widened
from ..errors import UsageError
from ..settings import Positive, checked
from .proposals import grid_boxes


@MODELS.register_module()
class RegionQueryHead(RPNHead):
    """Region proposal network (Faster R-CNN, section 3.1); its best N proposals are the boxes of the queries.

    The best proposal gets the first learned content, and so on. No gradient runs from the decoder to the
    boxes, as in mmdet's two-stage detectors. If an image has less than N proposals, boxes of a grid are the
    others. Useful with little data: the network learns from each cell of the feature map where objects are,
    so the queries start near them.

    Args:
        num_proposals (int): Number of queries N.
        proposal_feature_channel (int): Width C of the contents.
        num_classes (int): Not used. mmdet's two-stage detectors set it to 1.
        test_cfg (dict): ``model.test_cfg.rpn``, as for mmdet's Faster R-CNN.
        train_cfg (dict, optional): ``model.train_cfg.rpn``.
        **settings: Other arguments of mmdet's ``RPNHead``. The levels of its anchors are the last ones of the
            neck.

    Raises:
        UsageError: If a setting is missing or outside of its limits.
    """

    @checked
    def __init__(self,
                 num_proposals: Positive = 100,
                 proposal_feature_channel: Positive = 256,
                 num_classes: Optional[int] = None,
                 test_cfg: Optional[ConfigType] = None,
                 train_cfg: Optional[ConfigType] = None,
                 **settings: Any) -> None:
        if test_cfg is None:
            raise UsageError('RegionQueryHead: model.test_cfg.rpn is missing; add nms_pre, max_per_img, nms '
                             'and min_bbox_size, see configs/_base_/models/region_proposals.py', 'bad-config')
        super().__init__(train_cfg=train_cfg, test_cfg=test_cfg, **settings)
        self.num_proposals = num_proposals
        self.proposal_feature_channel = proposal_feature_channel
        self.init_proposal_features = nn.Embedding(num_proposals, proposal_feature_channel)

    def forward_single(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Scores and box deltas of a level. Half precision is too coarse for boxes."""
        score, delta = super().forward_single(x)
        return widened(score), widened(delta)

    def loss_and_predict(self, x: Sequence[Tensor], batch_data_samples: SampleList,
                         proposal_cfg: Optional[ConfigType] = None) -> Tuple[dict, InstanceList]:
        """Losses of the proposals, and queries, see :meth:`queries`.

        Args:
            x (Sequence[Tensor]): Levels of the neck, has shape (B, C_f, H_l, W_l).
            batch_data_samples (list[:obj:`DetDataSample`]): Annotated samples.
            proposal_cfg (dict, optional): ``model.train_cfg.rpn_proposal``.

        Raises:
            UsageError: If the head was built without ``train_cfg``.
        """
        if not self.train_cfg:
            raise UsageError('RegionQueryHead: model.train_cfg.rpn is missing, so there are no losses; add '
                             'assigner and sampler, see configs/_base_/models/region_proposals.py',
                             'bad-config')
        losses, found = super().loss_and_predict(
            self._levels(x), batch_data_samples, proposal_cfg=proposal_cfg)
        return ({name: torch.stack(levels).sum() for name, levels in losses.items()},
                self.queries(found, batch_data_samples))

    def predict(self, x: Sequence[Tensor], batch_data_samples: SampleList,
                rescale: bool = False) -> InstanceList:
        """Queries, see :meth:`queries`.

        Args:
            x (Sequence[Tensor]): Levels of the neck, has shape (B, C_f, H_l, W_l).
            batch_data_samples (list[:obj:`DetDataSample`]): Samples, for their meta information.
            rescale (bool): Not used: boxes of queries are in pixels of the input.
        """
        found = super().predict(self._levels(x), batch_data_samples, rescale=False)
        return self.queries(found, batch_data_samples)

    def queries(self, found: InstanceList, batch_data_samples: SampleList) -> InstanceList:
        """Queries of each image from its proposals.

        Args:
            found (list[:obj:`InstanceData`]): Proposals of each image, the best one first: ``bboxes``
                (x1, y1, x2, y2) in pixels, has shape (M_i, 4).
            batch_data_samples (list[:obj:`DetDataSample`]): Samples, for their meta information.

        Returns:
            list[:obj:`InstanceData`]: ``bboxes`` (x1, y1, x2, y2) in pixels, has shape (N, 4);
            ``features``, layer-normalised without affine parameters, has shape (N, C);
            ``imgs_whwh``, has shape (N, 4).
        """
        content = self.init_proposal_features.weight
        content = F.layer_norm(content, content.shape[-1:])
        results: List[InstanceData] = []
        for proposals, sample in zip(found, batch_data_samples):
            height, width = sample.metainfo['img_shape'][:2]
            whwh = content.new_tensor([width, height, width, height])
            box = proposals.bboxes.detach()[:self.num_proposals].to(content.dtype)
            if len(box) < self.num_proposals:
                box = torch.cat([box, grid_boxes(self.num_proposals - len(box)).to(whwh) * whwh])
            results.append(InstanceData(bboxes=box, features=content, imgs_whwh=whwh.expand_as(box)))
        return results

    def _levels(self, x):
        return tuple(x[-len(self.prior_generator.strides):])
