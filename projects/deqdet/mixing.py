"""Adaptive mixing: every query generates the weights that mix its own samples."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdaptiveMixing(nn.Module):
    """Channel, then spatial mixing with generated weights (AdaMixer, section 3.3).

    Args:
        content_dim (int): Width C of the content vectors.
        feat_channels (int): Channels C_f of the features.
        groups (int): G, divides ``feat_channels``.
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
        self.channel_weights = self.group_channels ** 2
        num_weights = self.channel_weights + out_points * in_points
        # A Sequential of one, for the published parameter names.
        self.parameter_generator = nn.Sequential(nn.Linear(content_dim, groups * num_weights))
        self.out_proj = nn.Linear(groups * out_points * self.group_channels, content_dim)

    def reset_parameters(self) -> None:
        """Generator: weight zero while its bias, all of M and S at the start, stays uniform."""
        for linear in (self.parameter_generator[0], self.out_proj):
            linear.reset_parameters()
        nn.init.zeros_(self.parameter_generator[0].weight)
        nn.init.xavier_uniform_(self.out_proj.weight)

    def forward(self, sampled: Tensor, content: Tensor) -> Tensor:
        """Mix the samples of each query.

        Args:
            sampled (Tensor): Sampled features, has shape (B, N, G, P_in, C_f / G).
            content (Tensor): Content vectors, has shape (B, N, C).

        Returns:
            Tensor: Update of the content vectors, has shape (B, N, C).
        """
        weights = self.parameter_generator(content).unflatten(-1, (self.groups, -1))
        channel, spatial = weights.split(
            [self.channel_weights, self.out_points * self.in_points], dim=-1)
        channel = channel.unflatten(-1, (self.group_channels, self.group_channels))
        spatial = spatial.unflatten(-1, (self.out_points, self.in_points))
        mixed = _norm_relu(torch.matmul(sampled, channel))
        mixed = _norm_relu(torch.matmul(spatial, mixed))
        return self.out_proj(mixed.flatten(2))


def _norm_relu(x: Tensor) -> Tensor:
    """LayerNorm over the last two dimensions together, without parameters, then ReLU."""
    return F.relu(F.layer_norm(x, x.shape[-2:]))
