"""Matching and losses of one decoder state."""

from dataclasses import dataclass
from typing import Dict, List, Sequence, Union

import torch
from mmdet.models.losses import accuracy
from mmdet.registry import TASK_UTILS
from mmdet.utils import InstanceList, reduce_mean
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .errors import NonFiniteError, UsageError
from .settings import is_finite
from .state import BoxState, DecoderState


@dataclass(frozen=True)
class Targets:
    """Ground truth of a batch.

    Attributes:
        instances (list[:obj:`InstanceData`]): ``bboxes`` (x1, y1, x2, y2) in pixels, has shape
            (M_i, 4), and ``labels``, has shape (M_i,), for each image.
        metas (list[dict]): Meta information of each image.
        whwh (Tensor): (w, h, w, h) of each image in pixels, has shape (B, 1, 4).
    """

    instances: InstanceList
    metas: List[dict]
    whwh: Tensor

    @classmethod
    def from_samples(cls, batch_data_samples: Sequence, *, num_classes: int,
                     num_queries: int) -> 'Targets':
        """Collect the targets of a batch and check them once for all supervised states.

        Args:
            batch_data_samples (list[:obj:`DetDataSample`]): Annotated samples.
            num_classes (int): Classes K of the head.
            num_queries (int): Queries N.

        Returns:
            Targets: Ground truth in float32.

        Raises:
            UsageError: If a label does not fit the head, or a box is not finite.
        """
        instances, metas, whwh = [], [], []
        for sample in batch_data_samples:
            truth = sample.gt_instances
            boxes = getattr(truth.bboxes, 'tensor', truth.bboxes).float()
            _check_truth(boxes, truth.labels, sample.metainfo, num_classes, num_queries)
            instances.append(InstanceData(bboxes=boxes, labels=truth.labels))
            metas.append(sample.metainfo)
            height, width = sample.metainfo['img_shape'][:2]
            whwh.append(boxes.new_tensor([[width, height, width, height]]))
        return cls(instances, metas, torch.stack(whwh))


class SetCriterion:
    """Hungarian matching, then focal, L1 and GIoU loss (supplement, Table 1).

    The normaliser is the number of matched queries, summed over all workers, at least 1, divided by
    the number of workers. Everything is computed in float32.

    Args:
        train_cfg (dict): ``assigner``, ``sampler`` (mmdet's ``PseudoSampler``, since a set prediction
            has nothing to sample) and ``pos_weight`` (weight of matched queries in the class loss;
            0 or less means 1).
    """

    def __init__(self, train_cfg: dict) -> None:
        sampler = train_cfg.get('sampler', dict(type='PseudoSampler'))
        if sampler['type'] != 'PseudoSampler':
            raise UsageError(f'train_cfg.rcnn: sampler type {sampler["type"]!r} is not supported; set '
                             'prediction needs sampler=dict(type="PseudoSampler")')
        for number, cost in enumerate(_costs(train_cfg)):
            if not is_finite(cost.get('weight', 1)):
                raise UsageError(f'train_cfg.rcnn: weight={cost["weight"]!r} of '
                                 f'assigner.match_costs.{number} must be a number')
        self.assigner = TASK_UTILS.build(train_cfg['assigner'])
        pos_weight = train_cfg.get('pos_weight', 1)
        if not is_finite(pos_weight):
            raise UsageError(f'train_cfg.rcnn: pos_weight={pos_weight!r} must be a number')
        self.pos_weight = pos_weight if pos_weight > 0 else 1

    def __call__(self, layer: nn.Module, state: Union[DecoderState, BoxState], targets: Targets,
                 name: str) -> Dict[str, Tensor]:
        """Losses of one state.

        Args:
            layer (nn.Module): The layer that made the state; its ``loss_cls``, ``loss_bbox``,
                ``loss_iou`` and ``num_classes`` are used.
            state (DecoderState or BoxState): Predictions; ``box`` and ``logits`` are used.
            targets (Targets): Ground truth.
            name (str): Prefix of the keys.

        Returns:
            dict[str, Tensor]: ``{name}loss_cls``, ``{name}loss_bbox``, ``{name}loss_iou``, scalars,
            and ``{name}pos_acc``, the top-1 accuracy of matched queries in percent.

        Raises:
            NonFiniteError: If a matching cost is not finite.
        """
        with torch.autocast(state.box.device.type, enabled=False):
            return {name + key: value for key, value in
                    self._losses(layer, state, targets, name).items()}

    def _losses(self, layer, state, targets, name):
        logits, box = state.logits.float(), state.box.float()
        matched = self._match(logits.detach(), box.detach(), targets, name)
        labels = logits.new_full(logits.shape[:2], layer.num_classes, dtype=torch.long)
        weights = torch.ones_like(labels, dtype=logits.dtype)
        true_boxes = []
        for i, (truth, (query, target)) in enumerate(zip(targets.instances, matched)):
            labels[i, query] = truth.labels[target]
            weights[i, query] = self.pos_weight
            true_boxes.append(truth.bboxes[target])
        image = torch.cat([query.new_full(query.shape, i) for i, (query, _) in enumerate(matched)])
        query = torch.cat([query for query, _ in matched])
        true_box = torch.cat(true_boxes)

        # The sum over workers is at least 1, not the average: one object in all counts as one.
        normaliser = reduce_mean(logits.new_tensor(float(len(query)))).clamp(
            min=1.0 / get_world_size())
        losses = dict(
            loss_cls=layer.loss_cls(logits.flatten(0, 1), labels.flatten(), weights.flatten(),
                                    avg_factor=normaliser))
        losses['pos_acc'] = accuracy(logits[image, query], labels[image, query])
        if len(query):
            whwh = targets.whwh[image, 0]
            pred_box = box[image, query]
            losses['loss_bbox'] = layer.loss_bbox(
                pred_box / whwh, true_box / whwh, avg_factor=normaliser)
            losses['loss_iou'] = layer.loss_iou(pred_box, true_box, avg_factor=normaliser)
        else:
            # Keeps the box branch in the graph: workers without objects still take part in DDP.
            losses['loss_bbox'] = losses['loss_iou'] = box.sum() * 0
        return losses

    def _match(self, logits, box, targets, name):
        """Query and target indices of the matched pairs of each image, in order of the queries."""
        pairs = []
        for i, (truth, meta) in enumerate(zip(targets.instances, targets.metas)):
            predicted = InstanceData(bboxes=box[i], scores=logits[i])
            try:
                # scipy refuses NaN and costs that leave no finite matching, both as ValueError.
                assigned = self.assigner.assign(
                    pred_instances=predicted, gt_instances=truth, img_meta=meta).gt_inds
            except ValueError as error:
                raise NonFiniteError(
                    f'matching cost of {name.rstrip("_.") or "the state"} is not finite ({error}) for '
                    f'{meta.get("img_path", "an image without path")}') from error
            query = torch.nonzero(assigned > 0).flatten()
            pairs.append((query, assigned[query] - 1))
        return pairs


def _costs(train_cfg) -> List[dict]:
    """Configs of the costs that are summed for the matching."""
    costs = train_cfg['assigner'].get('match_costs') or []
    costs = costs if isinstance(costs, (list, tuple)) else [costs]
    return [cost for cost in costs if isinstance(cost, dict)]


def _check_truth(boxes, labels, meta, num_classes, num_queries):
    """Refuse what would only show as nonsense later; warn about what cannot be matched."""
    if not len(labels):
        return
    where = meta.get('img_path', 'an image without path')
    if int(labels.max()) >= num_classes or int(labels.min()) < 0:
        raise UsageError(
            f'label {int(labels.max())} of {where} does not fit the head, which has num_classes='
            f'{num_classes}; set num_classes of every roi_head.bbox_head to the number of classes in '
            'the data set\'s metainfo')
    if not torch.isfinite(boxes).all():
        raise UsageError(f'{where} has an annotated box that is not finite; mend the annotation')
    if len(labels) > num_queries:
        print_log(
            f'{where} has {len(labels)} objects but there are {num_queries} queries: '
            f'{len(labels) - num_queries} stay unmatched; raise rpn_head.num_proposals',
            logger='current', level=30)
