"""The decoder layer: the initialisation layer g or the refinement layer f."""

import math
from typing import Annotated, Dict, Optional, cast

import torch
from mmcv.cnn.bricks.transformer import FFN, MultiheadAttention
from mmdet.registry import MODELS
from mmengine.model import BaseModule, bias_init_with_prob
from pydantic import Field
from torch import Tensor, nn

from ..dtypes import widened
from ..errors import UsageError
from ..settings import Count, Positive, Share, checked
from .class_losses import build_loss, check_losses
from .layer_protocol import DecoderLayer
from .mixing import AdaptiveMixing
from .position import PositionCodec
from .sampling import FeaturePyramid, place_points
from .state import DecoderState

# In the embedding x and y are in units of 1000 px; scale and aspect ratio are not scaled.
EMBEDDING_UNIT = 1000.0


def embed_position(position: Tensor, dim: int, temperature: float = 10000.0) -> Tensor:
    """Sinusoidal embedding of (x / 1000, y / 1000, z, r), without the factor 2 pi.

    Args:
        position (Tensor): (x, y, z, r), has shape (..., 4).
        dim (int): Width of the embedding, divisible by 8: dim / 4 channels for each coordinate, sine and
            cosine interleaved.
        temperature (float): Base of the frequencies.

    Returns:
        Tensor: Embedding, has shape (..., dim).
    """
    channels = dim // 4
    exponent = torch.arange(0, channels, 2, dtype=position.dtype, device=position.device) / channels
    xy, zr = position.split(2, dim=-1)
    angle = torch.cat([xy / EMBEDDING_UNIT, zr], dim=-1)[..., None] / temperature ** exponent
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-3)


def intersection_over_first(box: Tensor) -> Tensor:
    """Intersection of each pair of boxes over the area of the first box.

    Same result, to the bit, as mmdet's ``bbox_overlaps`` with mode ``iof``. But that function copies a number
    to the device at each call, which makes the program wait for the GPU.

    Args:
        box (Tensor): (x1, y1, x2, y2), has shape (B, N, 4).

    Returns:
        Tensor: Has shape (B, N, N).
    """
    area = (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
    corner = torch.max(box[..., :, None, :2], box[..., None, :, :2])
    opposite = torch.min(box[..., :, None, 2:], box[..., None, :, 2:])
    width, height = (opposite - corner).clamp(min=0).unbind(-1)
    return width * height / area.clamp(min=1e-6)[..., None]


class SamplingMixing(nn.Module):
    """Sample features at the points of each query, mix them, and add the result to the query.

    Args:
        content_dim (int): Width C of the content vectors.
        feat_channels (int): Channels C_f of the features.
        groups (int): G.
        in_points (int): Sampling points P_in of a group.
        out_points (int): Mixing points P_out.
        start_scale (float): Initial dz of all points, in octaves.
    """

    def __init__(self, *, content_dim: int, feat_channels: int, groups: int, in_points: int,
                 out_points: int, start_scale: float = -1.0) -> None:
        super().__init__()
        self.groups = groups
        self.in_points = in_points
        self.start_scale = start_scale
        # In a Sequential because of the published parameter names.
        self.sampling_offset_generator = nn.Sequential(
            nn.Linear(content_dim, groups * in_points * 3))
        self.norm = nn.LayerNorm(content_dim)
        self.adaptive_mixing = AdaptiveMixing(
            content_dim=content_dim, feat_channels=feat_channels, groups=groups,
            in_points=in_points, out_points=out_points)

    def reset_parameters(self) -> None:
        """Draw the weights; offsets start as a regular grid in the box."""
        generator = cast(nn.Linear, self.sampling_offset_generator[0])
        nn.init.zeros_(generator.weight)
        side = math.isqrt(self.in_points)
        with torch.no_grad():
            offset = generator.bias.view(self.groups, self.in_points, 3)
            if side * side == self.in_points:
                centres = (torch.arange(side) + 0.5) / side - 0.5
                offset[..., :2] = torch.cartesian_prod(centres, centres)  # dx is the slow index
            else:
                offset[..., :2].uniform_(-0.5, 0.5)
            offset[..., 2] = self.start_scale
        self.norm.reset_parameters()
        self.adaptive_mixing.reset_parameters()

    def forward(self, pyramid: FeaturePyramid, content: Tensor, position: Tensor) -> Tensor:
        """Update the content from the features.

        Args:
            pyramid (FeaturePyramid): Feature levels with C_f channels.
            content (Tensor): Content vectors, has shape (B, N, C).
            position (Tensor): Positions, has shape (B, N, 4).

        Returns:
            Tensor: New content vectors, has shape (B, N, C).
        """
        sampled = pyramid.sample(self.points(content, position))
        return self.norm(content + self.adaptive_mixing(sampled, content))

    def points(self, content: Tensor, position: Tensor) -> Tensor:
        """Sampling points of the queries, has shape (B, N, G, P_in, 3), see :func:`place_points`."""
        # Half precision would move points by up to a thousandth of the box, which may be many pixels.
        with torch.autocast(content.device.type, enabled=False):
            offsets = self.sampling_offset_generator(widened(content))
        return place_points(position, offsets.unflatten(-1, (self.groups, self.in_points, 3)))


@MODELS.register_module()
class AdaMixerHead(BaseModule, DecoderLayer):
    """Decoder layer of AdaMixer: self-attention, sampling, mixing, FFN and two branches.

    ::

        state -> self-attention (overlap bias) -> 3-D sampling -> adaptive mixing -> FFN -> content
                                                                     content -> class branch -> logits
                                                    content -> box branch -> delta -> position -> box

    The incoming position is detached: gradients run from layer to layer only through the content.

    Args:
        num_classes (int): Classes K.
        num_ffn_fcs (int): Linear layers of the FFN.
        num_heads (int): Attention heads.
        num_cls_fcs (int): Hidden layers of the class branch.
        num_reg_fcs (int): Hidden layers of the box branch.
        feedforward_channels (int): Hidden width of the FFN.
        content_dim (int): Width C of the queries, divisible by 8 and by ``num_heads``.
        feat_channels (int): Channels C_f of the features, divisible by ``n_groups``.
        dropout (float): Dropout of attention and FFN.
        ffn_act_cfg (dict): Activation of the FFN.
        in_points (int): Sampling points P_in of a group.
        out_points (int): Mixing points P_out.
        n_groups (int): Channel groups G.
        start_scale (float): Scale of the sampling points when the training starts, relative to the scale of
            the box, in octaves. Published: -1, which reads a box of 64 pixels mostly at strides 16 and 32.
            Lower values read finer levels. They help if objects are small and the training is short.
        loss_cls, loss_bbox, loss_iou (dict): Losses of mmdet, see :func:`check_losses`.
        bbox_coder (dict, optional): Accepted for published configs, without effect: see
            :class:`PositionCodec`.
        init_cfg (dict, optional): Applied after the layer's own initialisation.
        use_operator (bool): Accepted for published configs, without effect.

    Raises:
        UsageError: If an argument is outside of its limits, or a width is not divisible as required.
    """

    @checked
    def __init__(self,
                 num_classes: Positive = 80,
                 num_ffn_fcs: Annotated[int, Field(ge=2)] = 2,
                 num_heads: Positive = 8,
                 num_cls_fcs: Count = 1,
                 num_reg_fcs: Count = 1,
                 feedforward_channels: Positive = 2048,
                 content_dim: Positive = 256,
                 feat_channels: Positive = 256,
                 dropout: Share = 0.0,
                 ffn_act_cfg: dict = dict(type='ReLU', inplace=True),
                 in_points: Positive = 32,
                 out_points: Positive = 128,
                 n_groups: Positive = 4,
                 start_scale: float = -1.0,
                 loss_cls: dict = dict(
                     type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
                 loss_bbox: dict = dict(type='L1Loss', loss_weight=5.0),
                 loss_iou: dict = dict(type='GIoULoss', loss_weight=2.0),
                 bbox_coder: Optional[dict] = None,
                 init_cfg: Optional[dict] = None,
                 use_operator: bool = False) -> None:
        super().__init__(init_cfg=init_cfg)
        _check_divisible(content_dim=content_dim, num_heads=num_heads, feat_channels=feat_channels,
                         n_groups=n_groups)
        self.num_classes = num_classes
        self.num_heads = num_heads
        self.content_dim = content_dim
        self.feat_channels = feat_channels
        self.loss_cls = build_loss(loss_cls, name='AdaMixerHead: loss_cls')
        self.loss_bbox = build_loss(loss_bbox, name='AdaMixerHead: loss_bbox')
        self.loss_iou = build_loss(loss_iou, name='AdaMixerHead: loss_iou')
        check_losses(self, name='AdaMixerHead')

        self.iof_tau = nn.Parameter(torch.empty(num_heads))
        self.attention = MultiheadAttention(
            content_dim, num_heads, attn_drop=dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(content_dim)
        self.sampling_n_mixing = SamplingMixing(
            content_dim=content_dim, feat_channels=feat_channels, groups=n_groups,
            in_points=in_points, out_points=out_points, start_scale=start_scale)
        self.ffn = FFN(
            content_dim, feedforward_channels, num_ffn_fcs, act_cfg=ffn_act_cfg, ffn_drop=dropout)
        self.ffn_norm = nn.LayerNorm(content_dim)
        self.cls_fcs = _branch(content_dim, num_cls_fcs)
        self.fc_cls = nn.Linear(content_dim, num_classes)
        self.reg_fcs = _branch(content_dim, num_reg_fcs)
        self.fc_reg = nn.Linear(content_dim, 4)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial weights: Xavier-uniform, then the exceptions."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.LayerNorm)):
                module.reset_parameters()  # biases of Linear are U(+-1/sqrt(fan_in)), not zero
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        nn.init.xavier_uniform_(self.attention.attn.in_proj_weight)
        nn.init.zeros_(self.attention.attn.in_proj_bias)
        nn.init.uniform_(self.iof_tau, 0.0, 4.0)
        nn.init.constant_(self.fc_cls.bias, bias_init_with_prob(0.01))
        nn.init.zeros_(self.fc_reg.weight)
        nn.init.zeros_(self.fc_reg.bias)
        self.sampling_n_mixing.reset_parameters()

    def init_weights(self) -> None:
        """mmengine's initialisation pass; an ``init_cfg`` of the user is applied last."""
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def forward(self, pyramid: FeaturePyramid, state: DecoderState, *,
                classify: bool = True) -> DecoderState:
        """Apply the layer once.

        Args:
            pyramid, state: See :meth:`DecoderLayer.forward`.
            classify (bool): Run the class branch. The next layer does not use the logits.

        Returns:
            DecoderState: Outgoing state, with logits if ``classify``.
        """
        position = state.position.detach()
        content = self.attend(state.content, position, state.box.detach())
        content = self.sampling_n_mixing(pyramid, content, position)
        content = self.ffn_norm(self.ffn(content))
        # Under autocast the class branch may compute in half precision, but positions must not.
        with torch.autocast(content.device.type, enabled=False):
            delta = self.fc_reg(self.reg_fcs(widened(content)))
        position = PositionCodec.move(position, delta)
        return DecoderState(position=position, content=content, box=PositionCodec.decode(position),
                            logits=self.classify(content) if classify else None)

    def classify(self, content: Tensor) -> Tensor:
        """The class branch, see :meth:`DecoderLayer.classify`."""
        return widened(self.fc_cls(self.cls_fcs(content)))

    def is_lean(self, content: Tensor) -> bool:
        """Whether the mixing, the largest part of the graph, already recomputes in the backward pass."""
        return self.sampling_n_mixing.adaptive_mixing.works_in_blocks(content)

    def heavy_weights(self) -> Dict[str, nn.Parameter]:
        """The weights of the mixing: nearly all weights of the layer."""
        mixing = self.sampling_n_mixing.adaptive_mixing
        return dict(mixing.named_parameters(prefix='sampling_n_mixing.adaptive_mixing'))

    def sampling_points(self, state: DecoderState) -> Tensor:
        """The points at which :meth:`forward` samples, for an incoming state, see :func:`place_points`."""
        position = state.position.detach()
        content = self.attend(state.content, position, state.box.detach())
        return self.sampling_n_mixing.points(content, position)

    def attend(self, content: Tensor, position: Tensor, box: Tensor) -> Tensor:
        """Self-attention of the queries, biased towards queries with overlapping boxes.

        Args:
            content (Tensor): Content vectors, has shape (B, N, C).
            position (Tensor): Positions without graph, has shape (B, N, 4).
            box (Tensor): Boxes without graph, has shape (B, N, 4).

        Returns:
            Tensor: New content vectors, has shape (B, N, C).
        """
        iof = intersection_over_first(box)
        bias = self.iof_tau.view(1, -1, 1, 1) * torch.log(iof + 1e-7)[:, None]
        # The residual connection includes the embedding, as in the released models.
        query = content + embed_position(position, self.content_dim)
        return self.attention_norm(self.attention(query, attn_mask=bias.flatten(0, 1)))


def _branch(width: int, depth: int) -> nn.Sequential:
    """Hidden layers of a prediction branch: ``depth`` x (Linear, LayerNorm, ReLU)."""
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _check_divisible(**widths: int) -> None:
    for name, divisor, of in (
            ('content_dim', 8, '8 (position embedding: sine and cosine of 4 coordinates)'),
            ('content_dim', widths['num_heads'], f'num_heads={widths["num_heads"]}'),
            ('feat_channels', widths['n_groups'], f'n_groups={widths["n_groups"]}')):
        if widths[name] % divisor:
            raise UsageError(
                f'AdaMixerHead: {name}={widths[name]} must be divisible by {of}', 'settings-mismatch')
