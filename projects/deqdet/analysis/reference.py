"""The decoder in the form of the released models, as a reference for measurements."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
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
