"""The neck: one convolution per level, and one GroupNorm shared by all levels."""

from typing import Annotated, Optional, Sequence, Tuple

from mmdet.models.necks import ChannelMapper
from mmdet.registry import MODELS
from pydantic import Field
from torch import Tensor, nn

from ..errors import UsageError
from ..settings import checked

GROUPS = 32
Channels = Annotated[int, Field(
    ge=GROUPS, multiple_of=GROUPS, description=f'divisible by the {GROUPS} groups of its norm')]


@MODELS.register_module()
class ChannelMapperWithGN(ChannelMapper):
    """mmdet's ``ChannelMapper`` (3x3 convolution, ReLU) followed by GroupNorm(32).

    The norm's weights are shared by all levels.

    Args:
        in_channels (Sequence[int]): Channels of each backbone level.
        out_channels (int): Channels C_f of the features.
        num_outs (int, optional): Number of levels, by default that of ``in_channels``. Additional levels are
            computed from the last one by convolutions of stride 2.
        **kwargs: Further arguments of ``ChannelMapper``.

    Raises:
        UsageError: If ``out_channels`` is not divisible by 32, or if ``num_outs`` is smaller than the number
            of backbone levels.
    """

    @checked
    def __init__(self, *, in_channels: Sequence[int], out_channels: Channels, num_outs: Optional[int] = None,
                 **kwargs) -> None:
        if num_outs is not None and num_outs < len(in_channels):
            # ChannelMapper would ignore the number and return all levels.
            raise UsageError(
                f'ChannelMapperWithGN: num_outs={num_outs} is less than the {len(in_channels)} levels of '
                f'in_channels={list(in_channels)}; remove levels from model.backbone.out_indices and '
                'model.neck.in_channels, or raise model.neck.num_outs', 'settings-mismatch')
        super().__init__(
            in_channels=list(in_channels), out_channels=out_channels, num_outs=num_outs, **kwargs)
        self.in_channels = list(in_channels)
        self.gn_out = nn.GroupNorm(GROUPS, out_channels)

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Map backbone levels, has shape (B, C_l, H_l, W_l), to features, has shape (B, C_f, H_l, W_l)."""
        return tuple(self.gn_out(level) for level in super().forward(inputs))


def check_neck_input(levels: Sequence[Tensor], *, backbone: nn.Module, neck: nn.Module) -> None:
    """Check that the levels of a backbone match its neck.

    Args:
        levels (Sequence[Tensor]): Backbone levels, has shape (B, C_l, H_l, W_l).
        backbone (nn.Module): The backbone, for the message.
        neck (nn.Module): Its list ``in_channels`` is compared; a neck without it is not checked.

    Raises:
        UsageError: If number or channels of the levels differ.
    """
    expected = getattr(neck, 'in_channels', None)
    found = [level.shape[1] for level in levels]
    if isinstance(expected, (list, tuple)) and list(expected) != found:
        raise UsageError(
            f'model.neck.in_channels={list(expected)} but the backbone {type(backbone).__name__} gives '
            f'{found}: set model.neck.in_channels={found}, or choose other levels with '
            'model.backbone.out_indices', 'settings-mismatch')
