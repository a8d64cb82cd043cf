"""A class loss that learns how well a query matches its object."""

from typing import Annotated, Optional, Tuple

import torch
from mmdet.registry import MODELS
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..dtypes import widened
from ..settings import Size, checked


@MODELS.register_module()
class MatchabilityAwareLoss(nn.Module):
    """Matchability-aware loss (DEIM, CVPR 2025, section 3.3).

    ::

        query with an object, its class    q^gamma * -log(p) + (1 - q^gamma) * -log(1 - p)
        all other scores                   p^gamma * -log(1 - p)

    p is the score and q the IoU of the query's box with its object. A match with a bad box gets a low target,
    but its full weight. So the scores rank boxes by their quality. Predictions cost the same.

    Args:
        use_sigmoid (bool): Must be True, as in mmdet's losses of independent classes.
        gamma (float): Exponent, above 0.
        loss_weight (float): Weight of the loss.

    Raises:
        UsageError: If an argument is outside of its limits.
    """

    @checked
    def __init__(self, use_sigmoid: bool = True,
                 gamma: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.5,
                 loss_weight: Size = 1.0) -> None:
        super().__init__()
        self.use_sigmoid = use_sigmoid
        self.gamma = gamma
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tuple[Tensor, Tensor], weight: Optional[Tensor] = None,
                avg_factor: Optional[Tensor] = None) -> Tensor:
        """The sum over all scores, divided by ``avg_factor``, in float32 or float64.

        Args:
            pred (Tensor): Class scores before the sigmoid, has shape (M, K).
            target (tuple[Tensor, Tensor]): Classes, K for background, and qualities in [0, 1]; both have
                shape (M,).
            weight (Tensor, optional): Weights of the queries, has shape (M,).
            avg_factor (Tensor, optional): Divisor of the sum; by default the number of queries.
        """
        label, quality = target
        pred = widened(pred)
        of_object = F.one_hot(label, pred.shape[1] + 1)[:, :-1].bool()
        goal = torch.where(of_object, quality.to(pred)[:, None] ** self.gamma, 0)
        # The weight of a background score is a number, as in focal losses of quality: it has no gradient.
        scale = torch.where(of_object, 1, pred.detach().sigmoid() ** self.gamma)
        loss = scale * F.binary_cross_entropy_with_logits(pred, goal, reduction='none')
        if weight is not None:
            loss = loss * weight[:, None]
        return self.loss_weight * loss.sum() / (len(pred) if avg_factor is None else avg_factor)
