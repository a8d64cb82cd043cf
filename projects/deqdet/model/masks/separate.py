"""Global masks: the content of a query is a filter on the features of the whole image (Mask2Former)."""

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from mmcv.ops import point_sample
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ...dtypes import widened
from ...errors import UsageError
from ...settings import Flag, Positive, checked
from ..targets import Targets
from .head import MaskHead, Matched, blocks, mean_probability, output_shape, true_masks
from .place import PlaceFilter

_MASK = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=20.0)
_DICE = dict(type='DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, loss_weight=1.0)
# Values of enlarged maps that are in memory at once.
_BLOCK = 2 ** 23


@MODELS.register_module()
class DeCoupleHead(MaskHead, BaseModule):
    """Masks from the finest level (Cheng et al., Mask2Former, CVPR 2022, section 3).

    The map of a query is the inner product of Linear(content) with the features of each cell. It does not
    depend on class or box.

    Args:
        embed_dim (int): Width of contents and features.
        loss_mask (dict, optional): Loss of logits at points, by default focal loss of weight 20.
        loss_dice (dict, optional): Loss of logits at points, by default Dice of weight 1.
        position (bool): Add a map that the box gives alone, see :class:`PlaceFilter`. Then contents need not
            tell where an object is. The published heads do not have it.
        init_cfg (dict, optional): mmengine's initialisation.
    """

    loss_names = ('loss_mask', 'loss_dice')
    #: Number of levels that are used.
    num_levels = 1
    #: Pixels of the network's input per cell of each level; :meth:`check` sets them.
    strides: Tuple[int, ...] = ()

    @checked
    def __init__(self, embed_dim: Positive = 256, loss_mask: Optional[dict] = None,
                 loss_dice: Optional[dict] = None, position: Flag = False,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        self.embed_dim = embed_dim
        self.place = nn.ModuleList([PlaceFilter(embed_dim)] if position else [])
        self.mask_embed = nn.ModuleList([nn.Linear(embed_dim, embed_dim)])
        self.loss_mask = MODELS.build(loss_mask or _MASK)
        self.loss_dice = MODELS.build(loss_dice or _DICE)

    def check(self, layer: Any, strides: Optional[Sequence[int]], *, name: str) -> None:
        """See :meth:`MaskHead.check`."""
        width = getattr(layer, 'content_dim', None) or layer.in_channels
        channels = getattr(layer, 'feat_channels', width)
        if not self.embed_dim == width == channels:
            raise UsageError(f'{name}: embed_dim={self.embed_dim}, the width of the contents, {width}, and '
                             f'the channels of the features, {channels}, must be equal', 'settings-mismatch')
        if strides is not None and self.num_levels > len(strides):
            raise UsageError(f'{name}: mlvl={self.num_levels} is more than the {len(strides)} feature '
                             f'levels; use mlvl={len(strides)}', 'settings-mismatch')
        if self.place and strides is None:
            raise UsageError(f'{name}: position=True needs the strides of the feature levels, which this '
                             'decoder does not know; use position=False', 'settings-mismatch')
        self.strides = tuple(strides or ())

    def forward(self, features: Sequence[Tensor], content: Tensor, box: Tensor) -> Tensor:
        """Logits of some queries of one image, or of a batch.

        Args:
            features (Sequence[Tensor]): Feature levels, has shape ([B,] C, H_l, W_l).
            content (Tensor): Contents, has shape ([B,] P, C).
            box (Tensor): Boxes in pixels of the network's input, has shape ([B,] P, 4); used if ``position``.

        Returns:
            Tensor: Has shape ([B,] P, H_0, W_0), in float32 or float64.
        """
        return self._map(0, features[0], content, box)

    def _map(self, number: int, level: Tensor, content: Tensor, box: Tensor) -> Tensor:
        """The map of a query on level ``number``, has shape ([B,] P, H_l, W_l)."""
        embed = self.mask_embed[number if number < len(self.mask_embed) else 0]
        found = widened(torch.einsum('...pc,...chw->...phw', embed(content), level))
        if not self.place:
            return found
        return found + self.place[number](box, level.shape[-2:], self.strides[number])

    def losses(self, features: Sequence[Tensor], matched: Matched, targets: Targets
               ) -> List[Dict[str, Tensor]]:
        """``loss_mask`` and ``loss_dice``, at points that are drawn, see :meth:`MaskHead.losses`."""
        masks, size = true_masks(targets), features[0].shape[-2:]
        logits = widened(matched.content).new_empty((len(matched.content), *size))
        true: Any = [None] * len(logits)
        for image, (of_image, meta) in enumerate(zip(masks, targets.metas)):
            its = (matched.image == image).nonzero().flatten()
            if len(its):
                logits = logits.index_copy(0, its, self(
                    [level[image] for level in features], matched.content[its], matched.box[its]))
                for number, mask in zip(its.tolist(), _padded(of_image, matched.target[its], meta)):
                    true[number] = mask
        with torch.autocast(logits.device.type, enabled=False):
            # mmdet draws the points in float32.
            points = get_uncertain_point_coords_with_randomness(
                logits.detach().float()[:, None], None, self.settings.num_points,
                self.settings.oversample_ratio, self.settings.importance_sample_ratio).to(logits)
            found = point_sample(logits[:, None], points)[:, 0]
            # One mask after the other: as numbers they are large.
            wanted = torch.cat([point_sample(mask[None, None].to(points), point[None])[:, 0]
                                for mask, point in zip(true, points)])
            return [dict(loss_mask=self.loss_mask(predicted.reshape(-1), truth.reshape(-1),
                                                  avg_factor=normaliser * self.settings.num_points),
                         loss_dice=self.loss_dice(predicted, truth, avg_factor=normaliser))
                    for predicted, truth, normaliser in zip(
                        *map(matched.by_state, (found, wanted)), matched.normalisers)]

    def predict(self, features: Sequence[Tensor], content: Tensor, box: Tensor, labels: Tensor, meta: dict, *,
                rescale: bool, threshold: float) -> Tuple[Tensor, Tensor]:
        """Maps enlarged to the image, in blocks, see :meth:`MaskHead.predict`."""
        shape = output_shape(meta, rescale=rescale)
        found = labels.new_zeros((len(labels), *shape), dtype=torch.bool)
        scores = box.new_zeros(len(labels))
        levels = [level[0] for level in features]
        (height, width), padded = meta['img_shape'][:2], meta.get('batch_input_shape', meta['img_shape'])
        # The logarithm of the odds: comparing logits saves the sigmoid of every pixel.
        limit = torch.logit(torch.tensor(threshold, dtype=torch.float64)).item()
        block = max(1, _BLOCK // max(padded[0] * padded[1], shape[0] * shape[1]))
        for part in blocks(torch.arange(len(labels), device=labels.device), block):
            logits = self(levels, content[part], box[part])
            found[part] = _resized(_resized(logits, padded)[..., :height, :width], shape) > limit
            scores[part] = mean_probability(logits, threshold)
        return found, scores


@MODELS.register_module()
class DeCoupleMLVLEHead(DeCoupleHead):
    """Masks from several levels: their maps, enlarged to the finest level, weighted by the query.

    Args:
        mlvl (int): Number of levels, from the finest one on.
        share_filter (bool): One Linear for all levels instead of one for each.
        embed_dim, loss_mask, loss_dice, position, init_cfg: See :class:`DeCoupleHead`.
    """

    @checked
    def __init__(self, embed_dim: Positive = 256, loss_mask: Optional[dict] = None,
                 loss_dice: Optional[dict] = None, mlvl: Positive = 4, share_filter: Flag = False,
                 position: Flag = False, init_cfg: Optional[dict] = None) -> None:
        super().__init__(embed_dim, loss_mask, loss_dice, position, init_cfg)
        self.num_levels = mlvl
        self.mask_embed = nn.ModuleList(
            nn.Linear(embed_dim, embed_dim) for _ in range(1 if share_filter else mlvl))
        self.mlvl_weight_generator = nn.ModuleList([nn.Linear(embed_dim, mlvl)])
        self.place = nn.ModuleList(PlaceFilter(embed_dim) for _ in range(mlvl if position else 0))

    def forward(self, features: Sequence[Tensor], content: Tensor, box: Tensor) -> Tensor:
        """See :meth:`DeCoupleHead.forward`; the weights of the levels are a softmax of Linear(content)."""
        weights = widened(self.mlvl_weight_generator[0](content)).softmax(-1)
        total: Any = 0
        for number in range(self.num_levels):
            small = self._map(number, features[number], content, box)
            # The first level has the size of the result. Sizes in a recorded program cannot be compared.
            large = _interpolated(small, features[0].shape[-2:]) if number else small
            total = total + weights[..., number, None, None] * large
        return total


def _resized(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """Maps (P, H, W), resized to another height and width."""
    return maps if tuple(maps.shape[-2:]) == tuple(shape) else _interpolated(maps, shape)


def _interpolated(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """Maps ([B,] P, H, W), interpolated to another height and width."""
    batch = maps if maps.dim() == 4 else maps[None]
    found = F.interpolate(batch, size=tuple(shape), mode='bilinear', align_corners=False)
    return found if maps.dim() == 4 else found[0]


def _padded(masks: Any, chosen: Tensor, meta: dict) -> Iterator[Tensor]:
    """True masks of some objects of an image, padded to the network's input, has shape (H, W), uint8."""
    every = torch.from_numpy(masks.to_ndarray()).to(chosen.device)
    height, width = meta.get('batch_input_shape', every.shape[-2:])
    every = F.pad(every, (0, width - every.shape[-1], 0, height - every.shape[-2]))
    return (every[number] for number in chosen.tolist())
