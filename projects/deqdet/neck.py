"""The neck: one convolution a level and one GroupNorm shared by all levels."""

from typing import Sequence, Tuple

from mmdet.models.necks import ChannelMapper
from mmdet.registry import MODELS
from torch import Tensor, nn

from .errors import UsageError

GROUPS = 32


@MODELS.register_module()
class ChannelMapperWithGN(ChannelMapper):
    """mmdet's ``ChannelMapper`` (3x3 convolution, ReLU) followed by GroupNorm(32).

    Takes the arguments of ``ChannelMapper``. The norm's weights are shared by all levels.

    Raises:
        UsageError: If ``out_channels`` does not divide by 32.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        channels = self.convs[0].out_channels
        if channels % GROUPS:
            raise UsageError(f'ChannelMapperWithGN: out_channels={channels} must be divisible by the '
                             f'{GROUPS} groups of its norm')
        self.gn_out = nn.GroupNorm(GROUPS, channels)

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Map backbone levels to features.

        Args:
            inputs (Sequence[Tensor]): Backbone levels, has shape (B, C_l, H_l, W_l).

        Returns:
            tuple[Tensor]: Features, has shape (B, C_f, H_l, W_l) each.
        """
        return tuple(self.gn_out(level) for level in super().forward(inputs))
