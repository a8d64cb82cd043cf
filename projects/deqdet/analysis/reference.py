"""Decoder and training step in the form of the released models, as a reference for measurements."""

from dataclasses import replace
from typing import Any, Dict, List, Optional

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from torch import Tensor, nn

from ..equilibrium import Iterate
from ..model.decoder_layer import AdaMixerHead
from ..model.mixing import AdaptiveMixing
from ..model.sampling import FeaturePyramid
from ..model.state import DecoderState


class ReferenceMixing(AdaptiveMixing):
    """Mixes all groups of all queries at once; each result gets new memory."""

    def forward(self, sampled: Tensor, content: Tensor) -> Tensor:
        """Mix the samples of each query, see :class:`AdaptiveMixing`."""
        weights = self.parameter_generator(content).unflatten(-1, (self.groups, -1))
        channel, spatial = weights.split(self.widths, dim=-1)
        mixed = torch.matmul(sampled, channel.unflatten(-1, (self.group_channels, self.group_channels)))
        mixed = F.relu(F.layer_norm(mixed, mixed.shape[-2:]))
        mixed = torch.matmul(spatial.unflatten(-1, (self.out_points, self.in_points)), mixed)
        mixed = F.relu(F.layer_norm(mixed, mixed.shape[-2:]))
        return self.out_proj(mixed.flatten(2))


class ReferenceLayer(AdaMixerHead):
    """A decoder layer that runs its class branch at every application."""

    def forward(self, pyramid: FeaturePyramid, state: DecoderState, *,
                classify: bool = True) -> DecoderState:
        """Apply the layer once, see :class:`AdaMixerHead`."""
        return super().forward(pyramid, state, classify=True)


def use_reference_form(model: nn.Module) -> nn.Module:
    """Change a decoder to the released form: float32, one `grid_sample` per level, no tolerance.

    Args:
        model (nn.Module): A detector with AdaMixer's layers; it is changed and returned.
    """
    head: Any = model.roi_head
    head.sampling, head.solve_dtype, head.compiler = 'grid', None, None
    head.grad_accumulation, head.positions_per_batch = False, 1
    head.prediction = replace(head.prediction, solve_dtype=None, tolerance=None, solver=Iterate())
    for layer in head.bbox_head:
        layer.__class__ = ReferenceLayer
        layer.sampling_n_mixing.adaptive_mixing.__class__ = ReferenceMixing
    return model


def training_step(model: nn.Module, inputs: Tensor, samples: SampleList, *,
                  dtype: Optional[torch.dtype] = None) -> Dict[str, Tensor]:
    """Losses and gradients of a training step; a detector in the released form has the released step.

    Args:
        model, inputs, samples: See :func:`released_step`.
        dtype (torch.dtype, optional): Half precision of autocast, not for the released step.

    Returns:
        dict[str, Tensor]: Losses by state.
    """
    detector: Any = model
    head = detector.roi_head
    if isinstance(head.bbox_head[-1], ReferenceLayer) and not head.with_mask:  # masks get their losses later
        return released_step(model, inputs, samples)
    with torch.autocast(inputs.device.type, dtype=dtype or torch.bfloat16, enabled=bool(dtype)):
        losses = detector.loss(inputs, samples)
    total(losses).backward()
    return losses


def released_step(model: nn.Module, inputs: Tensor, samples: SampleList) -> Dict[str, Tensor]:
    """Losses and gradients of a training step as the released code forms them.

    A backward pass follows each supervised position and frees its graph, one for y_0 and the refinements
    after it. The gradients of the features are added, and go through neck and backbone once, at the end. So
    there is no loss scale, and gradients of several batches cannot be added with weights.

    Args:
        model (nn.Module): A detector with a DEQ head.
        inputs (Tensor): Normalised images, has shape (B, 3, H, W).
        samples (list[:obj:`DetDataSample`]): Annotated samples.

    Returns:
        dict[str, Tensor]: Losses by state, without graph.
    """
    detector: Any = model
    head = detector.roi_head
    features = detector.extract_feat(inputs)
    leaves = [level.detach().requires_grad_() for level in features]
    losses, proposals = detector.rpn_head.loss_and_predict(leaves, samples)
    criterion, waiting = head.criterion, [*losses.values()]

    def freeing(layer, state, targets, name, *args, **kwargs):
        found = criterion(layer, state, targets, name, *args, **kwargs)
        if name.startswith('iter'):
            _backward(waiting)  # y_0 and the refinements after it share a graph
        waiting.extend(value for key, value in found.items() if 'loss' in key)
        if name.startswith('iter'):
            _backward(waiting)
        return {key: value.detach() for key, value in found.items()}

    head.criterion = freeing
    try:
        losses.update(head.loss(leaves, proposals, samples))
        _backward(waiting)
    finally:
        head.criterion = criterion
    torch.autograd.backward(features, [level.grad for level in leaves])
    return {key: value.detach() for key, value in losses.items()}


def total(losses: Dict[str, Tensor]) -> Tensor:
    """The sum of all losses."""
    return torch.stack([value.sum() for key, value in losses.items() if 'loss' in key]).sum()


def _backward(losses: List[Tensor]) -> None:
    if losses:
        torch.stack(losses).sum().backward()
        losses.clear()
