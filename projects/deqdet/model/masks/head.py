"""The interface of a mask head, and the settings of its training.

A new mask head is a file beside this one: an ``nn.Module`` that inherits from :class:`MaskHead`, in mmdet's
``MODELS``.
"""

from abc import abstractmethod
from dataclasses import dataclass, fields
from typing import Annotated, Any, Dict, List, Optional, Sequence, Tuple, Union

from mmdet.registry import MODELS
from mmengine.model import ModuleList
from pydantic import Field
from torch import Tensor, nn

from ...errors import UsageError
from ...settings import Positive, Share, check_arguments
from ..targets import Targets


@dataclass(frozen=True)
class MaskTraining:
    """Settings of mask losses, keys of ``train_cfg.rcnn``.

    Attributes:
        mask_size (int): Side of the true masks inside the boxes, for local heads.
        num_points (int): Points of each mask in the loss, for global heads.
        oversample_ratio (float): Candidates for each point; the most uncertain ones are taken.
        importance_sample_ratio (float): Share of points chosen by uncertainty; the others are random.
    """

    mask_size: Positive = 28
    num_points: Positive = 12544
    oversample_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 3.0
    importance_sample_ratio: Share = 0.75

    @classmethod
    def read(cls, train_cfg: dict) -> 'MaskTraining':
        """The settings of a ``train_cfg.rcnn``; a missing one has its default.

        Raises:
            UsageError: If a value is not allowed.
        """
        found = {field.name: train_cfg[field.name] for field in fields(cls) if field.name in train_cfg}
        check_arguments(cls, found, prefix='train_cfg.rcnn.')
        return cls(**found)


@dataclass(frozen=True)
class Matched:
    """Matched queries of S supervised states, one state after the other, with P of each.

    Attributes:
        image (Tensor): Index of the image, has shape (S * P,).
        target (Tensor): Index of the object in the image, has shape (S * P,).
        label (Tensor): Class of the object, has shape (S * P,).
        box (Tensor): Boxes (x1, y1, x2, y2) of the queries in pixels of the network's input, without
            gradient, in float32 or float64, has shape (S * P, 4).
        content (Tensor): Contents of the queries, has shape (S * P, C).
        normalisers (list[Tensor]): Divisor of the losses of each state.
    """

    image: Tensor
    target: Tensor
    label: Tensor
    box: Tensor
    content: Tensor
    normalisers: List[Tensor]

    def by_state(self, values: Tensor) -> List[Tensor]:
        """Values of all queries, has shape (S * P, ...), as S parts."""
        return list(values.chunk(len(self.normalisers)))


class MaskHead:
    """Base of the mask heads, a mixin for ``nn.Module``.

    Attributes:
        settings (MaskTraining): Settings of the losses; the decoder sets them from its ``train_cfg``.
        loss_names (tuple[str, ...]): Names of the losses.
    """

    settings = MaskTraining()
    loss_names: Tuple[str, ...]

    @abstractmethod
    def check(self, layer: Any, strides: Optional[Sequence[int]], *, name: str) -> None:
        """Check that the head fits the decoder layer whose states it gets.

        Args:
            layer (nn.Module): The decoder layer.
            strides (Sequence[int], optional): Pixels of the input per feature cell of each level, if the
                decoder knows them.
            name (str): Name of the head in messages.

        Raises:
            UsageError: If it does not.
        """

    @abstractmethod
    def losses(self, features: Sequence[Tensor], matched: Matched, targets: Targets
               ) -> List[Dict[str, Tensor]]:
        """Losses of supervised states. Maps of queries without object are not computed.

        Args:
            features (Sequence[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l).
            matched (Matched): Matched queries, at least one for each state.
            targets (Targets): Ground truth with masks.

        Returns:
            list[dict[str, Tensor]]: Scalars of each state, with the names in ``loss_names``.
        """

    @abstractmethod
    def predict(self, features: Sequence[Tensor], content: Tensor, box: Tensor, labels: Tensor, meta: dict, *,
                rescale: bool, threshold: float) -> Tuple[Tensor, Tensor]:
        """Masks of D detections of one image.

        Args:
            features (Sequence[Tensor]): Feature levels of the image, has shape (1, C_f, H_l, W_l).
            content (Tensor): Contents of the detections' queries, has shape (D, C).
            box (Tensor): Boxes in pixels of the network's input, has shape (D, 4).
            labels (Tensor): Classes, has shape (D,).
            meta (dict): Meta information of the image.
            rescale (bool): Masks of the original image, else of the network's input without padding.
            threshold (float): Probability above which a pixel belongs to the object.

        Returns:
            tuple[Tensor, Tensor]: Booleans, has shape (D, H, W), and the mean probability of each mask's
            pixels, has shape (D,).
        """



def output_shape(meta: dict, *, rescale: bool) -> Tuple[int, int]:
    """Height and width of an image's masks, see :meth:`MaskHead.predict`."""
    height, width = meta['ori_shape' if rescale and 'ori_shape' in meta else 'img_shape'][:2]
    return height, width


def mean_probability(logits: Tensor, threshold: float) -> Tensor:
    """Mean probability of the cells that belong to the object, 0 if none does (Mask2Former's mask score).

    Args:
        logits (Tensor): Maps, has shape (P, h, w).
        threshold (float): Probability above which a cell belongs to the object.
    """
    probability = logits.sigmoid()
    inside = probability > threshold
    return (probability * inside).sum((-2, -1)) / inside.sum((-2, -1)).clamp(min=1)


def blocks(index: Tensor, size: int) -> Sequence[Tensor]:
    """Parts of an index of at most this size; none if the index is empty."""
    return index.split(size) if len(index) else ()


def true_masks(targets: Targets) -> List[Any]:
    """The masks of each image, mmdet's ``BitmapMasks`` or ``PolygonMasks``.

    Raises:
        UsageError: If an image has objects without masks.
    """
    for truth, meta in zip(targets.instances, targets.metas):
        if 'masks' not in truth:
            raise UsageError(
                f'model.roi_head has a mask_head but {meta.get("img_path", "an image without path")} has no '
                "masks: use dict(type='LoadAnnotations', with_bbox=True, with_mask=True) in the training "
                'pipeline', 'bad-config')
    return [truth.masks for truth in targets.instances]


def build_mask_heads(config: Union[dict, Sequence[dict]], layers: Sequence[nn.Module], *,
                     train_cfgs: Sequence[dict], strides: Optional[Sequence[int]], name: str) -> ModuleList:
    """Build the mask heads of decoder layers.

    Args:
        config (dict or Sequence[dict]): ``mask_head`` of the config: one for all layers, or one for each. All
            heads have their own weights.
        layers (Sequence[nn.Module]): The decoder layers.
        train_cfgs (Sequence[dict]): ``train_cfg.rcnn`` of each layer, or none.
        strides (Sequence[int], optional): See :meth:`MaskHead.check`.
        name (str): Name of the RoI head in messages.

    Raises:
        UsageError: If the number of heads is wrong, or one is no mask head for queries or does not fit its
            layer.
    """
    configs = list(config) if isinstance(config, (list, tuple)) else [config]
    if len(configs) not in (1, len(layers)):
        raise UsageError(f'{name}: mask_head must have 1 or {len(layers)} entries, not {len(configs)}',
                         'bad-setting')
    for each in configs:
        if not isinstance(each, dict):
            raise UsageError(f'{name}: mask_head={each!r} must be a dict with a type, or a list of one for '
                             f'each of the {len(layers)} decoder layers', 'bad-setting')
    heads = []
    for number, layer in enumerate(layers):
        head = MODELS.build(configs[number if len(configs) > 1 else 0])
        if not isinstance(head, MaskHead):
            raise UsageError(
                f'{name}: mask_head.type={type(head).__name__} is not a mask head for queries; use '
                'WarpedEfficientDynamicMaskHead, DeCoupleHead or DeCoupleMLVLEHead', 'bad-setting')
        head.check(layer, strides, name=f'{name}: mask_head')
        if train_cfgs:
            head.settings = MaskTraining.read(train_cfgs[number])
        heads.append(head)
    return ModuleList(heads)
