"""Losses of a decoder layer: the targets of each kind of class loss, and checks of the losses."""

from copy import deepcopy

import torch
from mmdet.models.losses import QualityFocalLoss, VarifocalLoss
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError, first_line
from .layer_protocol import HasLosses
from .matchability_loss import MatchabilityAwareLoss


def wants_quality(loss: nn.Module) -> bool:
    """Whether a class loss also learns the quality of the box."""
    return isinstance(loss, (QualityFocalLoss, VarifocalLoss, MatchabilityAwareLoss))


def class_loss(loss: nn.Module, logits: Tensor, labels: Tensor, quality: Tensor, weights: Tensor,
               avg_factor: Tensor) -> Tensor:
    """The class loss of some queries.

    Args:
        loss (nn.Module): A loss of mmdet, or MatchabilityAwareLoss, which gets labels and qualities, as
            QualityFocalLoss. VarifocalLoss gets a score for each class: the quality for the class of the
            label, else 0. All others get labels. CrossEntropyLoss and GHMC compute in float32 at any
            precision of the logits.
        logits (Tensor): Class scores before the sigmoid, has shape (M, K).
        labels (Tensor): Classes, K for background, has shape (M,).
        quality (Tensor): IoU of each query's box with its object's, 0 for background, has shape (M,).
        weights (Tensor): Weights of the queries, has shape (M,).
        avg_factor (Tensor): Divisor of the sum, scalar.
    """
    if isinstance(loss, (QualityFocalLoss, MatchabilityAwareLoss)):
        return loss(logits, (labels, quality), weights, avg_factor=avg_factor)
    if isinstance(loss, VarifocalLoss):
        score = F.one_hot(labels, logits.shape[1] + 1)[:, :-1] * quality[:, None]
        return loss(logits, score, weights[:, None], avg_factor=avg_factor)
    return loss(logits, labels, weights, avg_factor=avg_factor)


def build_loss(config: dict, *, name: str) -> nn.Module:
    """Build a loss from its config; ``name`` is the config key in messages.

    Raises:
        UsageError: If the loss does not accept its arguments.
    """
    try:
        return MODELS.build(config)
    except (AssertionError, NotImplementedError) as error:
        raise _unfit(name, config.get('type'), error) from error


def check_losses(layer: HasLosses, *, name: str) -> None:
    """Check that each loss of a layer computes one number from the arguments of :class:`SetCriterion`.

    Each loss is tried once, as a copy, because some losses keep statistics of their inputs.

    Args:
        layer (HasLosses): The layer.
        name (str): Name of the layer in messages.

    Raises:
        UsageError: Names the first loss that does not.
    """
    if not getattr(layer.loss_cls, 'use_sigmoid', False):
        raise UsageError(f'{name}: loss_cls must have use_sigmoid=True, because scores are sigmoids of '
                         'independent class logits', 'bad-setting')
    with torch.device('cpu'):  # the model may be built on the meta device, which has no values
        _try_losses(layer, name)


def _try_losses(layer, name):
    classes = layer.num_classes
    logits = torch.tensor([[2.0], [-2.0]]).repeat(1, classes)
    one, half = torch.ones(()), torch.tensor([0.5, 0.0])
    found, true = (torch.tensor([box, box]) for box in ([10.0, 10, 30, 30], [12.0, 10, 30, 40]))
    trials = dict(
        loss_cls=lambda loss: class_loss(
            loss, logits, torch.tensor([0, classes]), half, torch.ones(2), one),
        loss_bbox=lambda loss: loss(found / 100, true / 100, avg_factor=one),
        loss_iou=lambda loss: loss(found, true, avg_factor=one))
    for key, trial in trials.items():
        loss = deepcopy(getattr(layer, key))
        if any(buffer.is_meta for buffer in loss.buffers()):
            continue
        try:
            value = trial(loss)
            if value.numel() != 1:
                raise ValueError(f'it gives {value.numel()} values instead of one: remove reduction')
        except Exception as error:  # losses raise many kinds of errors
            raise _unfit(f'{name}: {key}', type(loss).__name__, error) from error


_MEANT = dict(
    loss_cls='a class loss of sigmoids: FocalLoss, QualityFocalLoss, VarifocalLoss, MatchabilityAwareLoss '
             'or CrossEntropyLoss',
    loss_bbox='a loss of two sets of boxes: L1Loss or SmoothL1Loss',
    loss_iou='a loss of two sets of boxes: GIoULoss, DIoULoss or CIoULoss')


def _unfit(name, kind, error):
    return UsageError(f'{name}: {kind} is not supported ({first_line(error)}); use '
                      f'{_MEANT[name.rpartition(" ")[2]]}', 'bad-setting')
