"""Matching and losses of one decoder state."""

from typing import Annotated, Any, Callable, Dict, List, Optional, Sequence, Union

import torch
from mmdet.models.losses import accuracy
from mmdet.models.task_modules import MaxIoUAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from pydantic import Field
from torch import Tensor

from ..dtypes import widened
from ..errors import NonFiniteError, UsageError, first_line
from ..settings import check
from .class_losses import class_loss, wants_quality
from .layer_protocol import HasLosses
from .state import BoxState, DecoderState
from .targets import Pairs, Targets

Report = Callable[[str, Any, Pairs], None]
_Number = Annotated[float, Field(allow_inf_nan=False)]
# Samplers that keep all queries. Published configs with masks use the second one.
_SAMPLERS = ('PseudoSampler', 'UnifiedPseudoSampler')


class SetCriterion:
    """Matching, then class, box and IoU loss (supplement, Table 1).

    The published matching is one to one (mmdet's ``HungarianAssigner``). With mmdet's ``MaxIoUAssigner`` each
    query whose box overlaps an object enough is matched to it.

    Losses are divided by :attr:`Pairs.normaliser`. Half precision is converted to float32; float64 stays.

    Args:
        train_cfg (dict): ``assigner``, ``sampler`` (mmdet's ``PseudoSampler``, because set prediction does
            not sample) and ``pos_weight`` (weight of matched queries in the class loss; 0 or less means 1).
    """

    def __init__(self, train_cfg: dict) -> None:
        sampler = train_cfg.get('sampler', dict(type='PseudoSampler'))
        if sampler['type'] not in _SAMPLERS:
            raise UsageError(f'train_cfg.rcnn: sampler type {sampler["type"]!r} is not supported; '
                             'use sampler=dict(type="PseudoSampler")', 'bad-setting')
        for number, cost in enumerate(_costs(train_cfg)):
            check(cost.get('weight', 1), _Number, name=f'train_cfg.rcnn.assigner.match_costs.{number}.weight')
        self.assigner = TASK_UTILS.build(train_cfg['assigner'])
        with torch.device('cpu'):  # the model may be built on the meta device, which has no values
            _check_assigner(self.assigner)
        pos_weight = train_cfg.get('pos_weight', 1)
        check(pos_weight, _Number, name='train_cfg.rcnn.pos_weight')
        self.pos_weight = pos_weight if pos_weight > 0 else 1

    def __call__(self, layer: HasLosses, state: Union[DecoderState, BoxState], targets: Targets, name: str,
                 features: Sequence[Tensor] = (), report: Optional[Report] = None,
                 pairs: Optional[Pairs] = None) -> Dict[str, Tensor]:
        """Match a state and compute its losses.

        Args:
            layer, state, targets, features: See :meth:`losses`.
            name (str): Prefix of the keys.
            report (Callable, optional): Called with the name, the state and its pairs, for losses that are
                computed later, see :meth:`MaskSupervision.add`.
            pairs (Pairs, optional): Pairs to take instead of matching.

        Returns:
            dict[str, Tensor]: Scalars ``{name}loss_cls``, ``{name}loss_bbox``, ``{name}loss_iou``, and
            ``{name}pos_acc``, the top-1 accuracy of matched queries in percent.

        Raises:
            NonFiniteError: If a matching cost is not finite.
        """
        if pairs is None:
            pairs = self.match(state, targets, name)
        if report is not None:
            report(name, state, pairs)
        losses = self.losses(layer, state, targets, pairs, features)
        return {name + key: value for key, value in losses.items()}

    def match(self, state: Union[DecoderState, BoxState], targets: Targets, name: str) -> Pairs:
        """The pairs of queries and objects; with the published assigner those with the smallest total cost.

        Args:
            state (DecoderState or BoxState): Predictions; ``box`` is used, and ``logits`` by an assigner that
                needs class scores.
            targets (Targets): Ground truth.
            name (str): Name of the state in messages.

        Raises:
            NonFiniteError: If a matching cost is not finite.
        """
        box = widened(state.box.detach())
        scores = {} if state.logits is None else dict(scores=widened(state.logits.detach()))
        queries, objects, left_out = [], [], []
        targets = targets.to(box.dtype)
        with torch.autocast(box.device.type, enabled=False):
            for i, (truth, ignored, meta) in enumerate(
                    zip(targets.instances, targets.ignored, targets.metas)):
                # `priors` are the boxes that an assigner by overlap compares with the objects.
                predicted = InstanceData(
                    bboxes=box[i], priors=box[i], **{key: value[i] for key, value in scores.items()})
                try:
                    # scipy raises ValueError for NaN, and if no matching has a finite cost.
                    assigned = self.assigner.assign(
                        pred_instances=predicted, gt_instances=truth, gt_instances_ignore=ignored,
                        img_meta=meta).gt_inds
                except ValueError as error:
                    raise NonFiniteError(
                        f'matching cost of {name.rstrip("_.") or "the state"} is not finite ({error}) for '
                        f'{meta.get("img_path", "an image without path")}') from error
                query = torch.nonzero(assigned > 0).flatten()
                target = assigned[query] - 1
                queries.append(torch.stack([torch.full_like(query, i), query, target]))
                objects.append((truth.labels[target], truth.bboxes[target]))
                unused = torch.nonzero(assigned < 0).flatten()
                left_out.append(torch.stack([torch.full_like(unused, i), unused]))
        labels, boxes = zip(*objects)
        image, query, target = torch.cat(queries, dim=1)
        return Pairs(image, query, target, label=torch.cat(labels), box=torch.cat(boxes),
                     left_out=torch.cat(left_out, dim=1))

    def losses(self, layer: HasLosses, state: Union[DecoderState, BoxState], targets: Targets, pairs: Pairs,
               features: Sequence[Tensor] = ()) -> Dict[str, Tensor]:
        """Losses of a matched state. A subclass can add losses of other targets.

        Args:
            layer (HasLosses): The layer that computed the state.
            state (DecoderState or BoxState): Predictions; ``box`` and ``logits`` are used.
            targets (Targets): Ground truth.
            pairs (Pairs): Result of :meth:`match`.
            features (Sequence[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l), for
                subclasses; not used here.

        Returns:
            dict[str, Tensor]: ``loss_cls``, ``loss_bbox``, ``loss_iou`` and ``pos_acc``.
        """
        assert state.logits is not None  # every layer outputs them
        logits, box = widened(state.logits), widened(state.box)
        with torch.autocast(box.device.type, enabled=False):
            normaliser = pairs.normaliser
            return {**self._class_losses(layer, logits, box, pairs, normaliser),
                    **self._box_losses(layer, box, targets, pairs, normaliser)}

    def _class_losses(self, layer, logits, box, pairs, normaliser):
        matched = pairs.image, pairs.query
        labels = logits.new_full(logits.shape[:2], layer.num_classes, dtype=torch.long)
        labels[matched] = pairs.label
        weights = logits.new_ones(logits.shape[:2])
        weights[matched] = self.pos_weight
        weights[tuple(pairs.left_out)] = 0
        quality = logits.new_zeros(logits.shape[:2])
        if wants_quality(layer.loss_cls):
            quality[matched] = bbox_overlaps(box[matched].detach(), pairs.box, is_aligned=True)
        loss = class_loss(layer.loss_cls, logits.flatten(0, 1), labels.flatten(), quality.flatten(),
                          weights.flatten(), normaliser)
        return dict(loss_cls=loss, pos_acc=accuracy(logits[matched], labels[matched]))

    def _box_losses(self, layer, box, targets, pairs, normaliser):
        if not len(pairs):
            # Keeps the box branch in the graph, as DDP needs it on workers without objects.
            return dict.fromkeys(('loss_bbox', 'loss_iou'), box.sum() * 0)
        found = box[pairs.image, pairs.query]
        whwh = targets.to(box.dtype).whwh[pairs.image, 0]
        return dict(loss_bbox=layer.loss_bbox(found / whwh, pairs.box / whwh, avg_factor=normaliser),
                    loss_iou=layer.loss_iou(found, pairs.box, avg_factor=normaliser))


def _check_assigner(assigner):
    """Check that the assigner needs only boxes, classes and scores; for example, there are no masks."""
    if type(assigner) is MaxIoUAssigner:  # a subclass may need more than boxes
        if assigner.match_low_quality and assigner.gt_max_assign_all and assigner.min_pos_iou <= 0:
            # mmdet's default: the best overlap of the object is 0, and all queries without overlap have it.
            raise UsageError(
                'train_cfg.rcnn.assigner: with min_pos_iou=0, an object that no query overlaps is matched to '
                'all queries; set min_pos_iou=0.1, or another number above 0', 'bad-setting')
        return
    found = InstanceData(bboxes=torch.tensor([[0.0, 0, 9, 9], [10.0, 10, 30, 20]]), scores=torch.zeros(2, 1))
    truth = InstanceData(bboxes=found.bboxes[:1], labels=torch.zeros(1, dtype=torch.long))
    try:
        assigner.assign(pred_instances=found, gt_instances=truth, img_meta=dict(img_shape=(50, 100)))
    except Exception as error:  # assigners and costs raise many kinds of errors
        raise UsageError(
            f'train_cfg.rcnn: assigner={type(assigner).__name__} does not work with boxes and class scores '
            f'only ({first_line(error)}); use HungarianAssigner with match_costs FocalLossCost, BBoxL1Cost '
            'and IoUCost, or MaxIoUAssigner', 'bad-setting') from error


def _costs(train_cfg) -> List[dict]:
    """Configs of the matching costs."""
    costs = train_cfg['assigner'].get('match_costs') or []
    costs = costs if isinstance(costs, (list, tuple)) else [costs]
    return [cost for cost in costs if isinstance(cost, dict)]
