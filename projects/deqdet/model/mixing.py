"""Adaptive mixing: each query generates the weights that mix its own samples."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..equilibrium import recomputed

# From this number of generated weights in a batch on, a CPU mixes block by block. The system provides larger
# memory (above 32 MB) page by page each time; small blocks are reused and stay in the caches.
_IN_BLOCKS_FROM = 2 ** 23
# torch before 2.7 does not distinguish exporting from compiling.
_is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)
# Queries in a block.
_BLOCK = 320


class AdaptiveMixing(nn.Module):
    """Channel, then spatial mixing with generated weights (AdaMixer, section 3.3).

    Args:
        content_dim (int): Width C of the content vectors.
        feat_channels (int): Channels C_f of the features.
        groups (int): G, a divisor of ``feat_channels``.
        in_points (int): Sampled points P_in of a group.
        out_points (int): Points P_out after spatial mixing.
    """

    def __init__(self, *, content_dim: int, feat_channels: int, groups: int, in_points: int,
                 out_points: int) -> None:
        super().__init__()
        self.groups = groups
        self.in_points = in_points
        self.out_points = out_points
        self.group_channels = feat_channels // groups
        #: Numbers of generated weights of a group: M and S.
        self.widths = [self.group_channels ** 2, out_points * in_points]
        # In a Sequential because of the published parameter names.
        self.parameter_generator = nn.Sequential(nn.Linear(content_dim, groups * sum(self.widths)))
        self.out_proj = nn.Linear(groups * out_points * self.group_channels, content_dim)

    def reset_parameters(self) -> None:
        """Draw the weights. The generator's weight is zero, so its uniform bias gives the first M and S."""
        generator = cast(nn.Linear, self.parameter_generator[0])
        for linear in (generator, self.out_proj):
            linear.reset_parameters()
        nn.init.zeros_(generator.weight)
        nn.init.xavier_uniform_(self.out_proj.weight)

    def forward(self, sampled: Tensor, content: Tensor) -> Tensor:
        """Mix the samples of each query.

        Args:
            sampled (Tensor): Sampled features, has shape (B, N, G, P_in, C_f / G).
            content (Tensor): Content vectors, has shape (B, N, C).

        Returns:
            Tensor: Update of the content vectors, has shape (B, N, C).
        """
        if self.works_in_blocks(content):
            return self.mix_in_blocks(sampled, content)
        weights = self.parameter_generator(content).unflatten(-1, (self.groups, -1))
        channel, spatial = weights.split(self.widths, dim=-1)
        return self.out_proj(self.mix(sampled, channel, spatial).flatten(2))

    def works_in_blocks(self, content: Tensor) -> bool:
        """Whether :meth:`forward` mixes these contents, has shape (B, N, C), with :meth:`mix_in_blocks`."""
        # An exported program takes batches of any size, so it must not depend on their size.
        if content.device.type != 'cpu' or _is_exporting():
            return False
        generated = content[..., 0].numel() * self.groups * sum(self.widths)
        return generated >= _IN_BLOCKS_FROM

    def mix(self, sampled: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
        """Mix samples with generated weights: from shape (..., P_in, C_f / G) to (..., P_out, C_f / G).

        Args:
            sampled (Tensor): Sampled features.
            channel (Tensor): Generated M, has shape (..., (C_f / G)^2).
            spatial (Tensor): Generated S, has shape (..., P_out * P_in).
        """
        channel = channel.unflatten(-1, (self.group_channels, self.group_channels))
        spatial = spatial.unflatten(-1, (self.out_points, self.in_points))
        mixed = _norm_relu(torch.matmul(sampled, channel))
        return _norm_relu(torch.matmul(spatial, mixed))

    def mix_in_blocks(self, sampled: Tensor, content: Tensor) -> Tensor:
        """The same as :meth:`forward`, block by block (one group of some queries); rounding differs.

        With gradient a block keeps only its arguments, and the backward pass computes it again.
        """
        weights, biases = (parameter.split(self.widths * self.groups)
                           for parameter in self.parameter_generator[0].parameters())
        by_group = list(zip(
            (samples.split(_BLOCK) for samples in sampled.flatten(0, 1).unbind(1)),
            weights[::2], weights[1::2], biases[::2], biases[1::2],
            self.out_proj.weight.chunk(self.groups, dim=1)))
        block = recomputed(self._block) if torch.is_grad_enabled() else self._block
        updates = []
        for i, some in enumerate(content.flatten(0, 1).split(_BLOCK)):
            update: Tensor = self.out_proj.bias
            for samples, *weights in by_group:
                update = update + block(samples[i], some, *weights)
            updates.append(update)
        return torch.cat(updates).view(content.shape)

    def _block(self, sampled, content, channel, spatial, channel_bias, spatial_bias, projection):
        # Two separate products: bfloat16 products would copy the two parts of one.
        channel = F.linear(content, channel, channel_bias)
        spatial = F.linear(content, spatial, spatial_bias)
        return F.linear(self.mix(sampled, channel, spatial).flatten(1), projection)


def _norm_relu(x: Tensor) -> Tensor:
    """LayerNorm over the last two dimensions together, without parameters, then ReLU."""
    return F.layer_norm(x, x.shape[-2:]).relu_()
