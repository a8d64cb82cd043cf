"""A detector split into parts; each is a function of tensors, so torch.export can record it.

::

    images, sizes -> Front -> features, y0 -> RecordedRefinement, again and again -> Selection -> detections
    images, sizes -> Front -> boxes, logits (stacked decoder) -------------> Selection -> detections

With masks, the selection also gets features and contents.
"""

from typing import Any, List, NamedTuple, Optional, Tuple

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..compat.datasets import exchanges_channels
from ..errors import UsageError
from ..model.heads import DEQDetRoIHead, FFNDetRoIHead
from ..model.masks import MaskHead
from ..model.region_proposals import RegionQueryHead
from ..model.sampling import GridPyramid
from ..model.state import DecoderState
from .masks import Masks


class Parts(NamedTuple):
    """The parts of a detector, as modules of torch or as ONNX models.

    Attributes:
        front (nn.Module or onnx.ModelProto): From images to y_0, or to the predictions of a stacked decoder.
        refinement (nn.Module or onnx.ModelProto, optional): One application of the implicit layer. None for a
            stacked decoder.
        selection (nn.Module or onnx.ModelProto): From boxes and logits to detections; with masks from
            features, contents, boxes and logits.
    """

    front: Any
    refinement: Optional[Any]
    selection: Any


class Normalisation(nn.Module):
    """mmdet's data preprocessor as a function of a batch that is already padded.

    Args:
        preprocessor (DetDataPreprocessor): The preprocessor of the detector.

    Raises:
        UsageError: If it has another class.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: DetDataPreprocessor) -> None:
        super().__init__()
        if type(preprocessor) is not DetDataPreprocessor:
            raise UsageError(f'the export does not support {type(preprocessor).__name__}: set '
                             "model.data_preprocessor.type='DetDataPreprocessor'", 'export-unsupported')
        # A preprocessor without normalisation has neither.
        self.register_buffer('mean', getattr(preprocessor, 'mean', torch.zeros(3, 1, 1)).clone())
        self.register_buffer('std', getattr(preprocessor, 'std', torch.ones(3, 1, 1)).clone())
        self.pad_value = float(preprocessor.pad_value)
        # mmdet reads images as BGR; with exchanged channels the network gets RGB.
        self.to_bgr = not exchanges_channels(preprocessor)

    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Normalise the images, and fill the padding outside of each image.

        Args:
            images (Tensor): RGB, 0 to 255, has shape (B, 3, H, W).
            sizes (Tensor): (height, width) of each image in the batch, int64, has shape (B, 2).

        Returns:
            Tensor: Input of the backbone, has shape (B, 3, H, W).
        """
        if self.to_bgr:
            images = images.flip(1)
        height, width = sizes[:, :, None].unbind(1)
        rows = torch.arange(images.shape[2], device=images.device) < height
        columns = torch.arange(images.shape[3], device=images.device) < width
        inside = (rows[:, :, None] & columns[:, None, :])[:, None]
        return torch.where(inside, (images - self.mean) / self.std, self.pad_value)


class SymbolicPyramid(GridPyramid):
    """:class:`GridPyramid` that computes the extent of each level from its symbolic size.

    ``torch.tensor`` converts a size to a number, so the recorded program would work only for this size.
    """

    def extent(self, feature: Tensor, stride: int) -> Tensor:
        height, width = feature.shape[-2:]
        return torch.stack([feature.new_full((), width * stride), feature.new_full((), height * stride)])


class Front(nn.Module):
    """From images to y_0, or with a stacked decoder to the predictions of its last layer."""

    proposal_box: Tensor
    proposal_content: Tensor

    def __init__(self, model: BaseModel, masks: bool = False) -> None:
        super().__init__()
        self.masks = masks
        self.normalisation = Normalisation(model.data_preprocessor)
        self.model: Any = model
        # For an image of one pixel, the boxes are relative to the image.
        unit = DetDataSample(metainfo=dict(img_shape=(1, 1)))
        proposals, = model.rpn_head.predict([torch.zeros(1)], [unit])
        self.register_buffer('proposal_box', proposals.bboxes.detach().clone())
        self.register_buffer('proposal_content', proposals.features.detach().clone())

    def forward(self, images: Tensor, sizes: Tensor) -> Tuple:
        """Everything before refinement and selection; for the arguments see :meth:`Normalisation.forward`.

        Returns:
            tuple: L features, has shape (B, C_f, H_l, W_l), and position, content, box and logits of y_0;
            logits are 0 without an initialisation layer. Of a stacked decoder: boxes, has shape (B, N, 4),
            and logits, has shape (B, N, K); with masks L features, and content, box and logits.
        """
        head = self.model.roi_head
        features = self.model.extract_feat(self.normalisation(images, sizes))
        box = self.proposal_box * sizes.flip(1).repeat(1, 2)[:, None].to(images.dtype)
        content = self.proposal_content.expand(images.shape[0], -1, -1)
        pyramid = SymbolicPyramid(features, head.featmap_strides)
        state = DecoderState.from_boxes(box, content)
        if isinstance(head, FFNDetRoIHead):
            state = head.decode(pyramid, state, [])
            return (list(features), list(state[1:])) if self.masks else (state.box, state.logits)
        state = head.initialise(pyramid, state)
        if state.logits is None:
            classes = head.bbox_head[-1].num_classes
            state = state._replace(logits=state.content.new_zeros(*state.content.shape[:2], classes))
        return list(pyramid.features), list(state)


class RecordedRefinement(nn.Module):
    """One application of the implicit layer, the last layer of ``head``."""

    def __init__(self, head: DEQDetRoIHead) -> None:
        super().__init__()
        self.layer = head.bbox_head[-1]
        self.strides = head.featmap_strides

    def forward(self, features: List[Tensor], position: Tensor, content: Tensor,
                box: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """From y to f(x, y): parts as in :class:`DecoderState`, L features of shape (B, C_f, H_l, W_l)."""
        state = DecoderState(position=position, content=content, box=box)
        return tuple(self.layer(SymbolicPyramid(features, self.strides), state))


class Selection(nn.Module):
    """:func:`select_detections` for a batch: ``count`` boxes per image, in pixels of the network's input."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, box: Tensor, logits: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Select the best scores over queries and classes, from boxes and logits as in :class:`DecoderState`.

        Returns:
            tuple: Boxes, has shape (B, D, 4), scores, sorted, and labels, int64, has shape (B, D).
        """
        return self.select(box, logits)[1:]

    def select(self, box: Tensor, logits: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Indices of the selected queries, has shape (B, D), and the result of :meth:`forward`."""
        scores, index = logits.sigmoid().flatten(1).topk(self.count)
        query = index // logits.shape[-1]
        return query, _taken(box, query), scores, index % logits.shape[-1]


class MaskedSelection(nn.Module):
    """:class:`Selection` with masks.

    Args:
        count (int): Detections of an image.
        head (MaskHead): The mask head.
    """

    def __init__(self, count: int, head: MaskHead) -> None:
        super().__init__()
        self.selection = Selection(count)
        self.masks = Masks(head)

    def forward(self, features: List[Tensor], content: Tensor, box: Tensor, logits: Tensor
                ) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """The result of :class:`Selection`, and probabilities, see :class:`Masks`."""
        query, box, scores, labels = self.selection.select(box, logits)
        return box, scores, labels, self.masks(features, _taken(content, query), box, labels)


def _taken(values: Tensor, query: Tensor) -> Tensor:
    """Values (B, N, C) of the queries (B, D)."""
    return values.gather(1, query[..., None].expand(-1, -1, values.shape[-1]))


def split_detector(model: BaseModel, *, masks: bool = True) -> Parts:
    """Split a detector, set to eval mode and without gradients, into parts.

    Args:
        model (BaseModel): The detector.
        masks (bool): With masks, if it has mask heads.

    Raises:
        UsageError: If its decoder or its mask head cannot be exported.
    """
    head = getattr(model, 'roi_head', None)
    if not isinstance(head, (DEQDetRoIHead, FFNDetRoIHead)):
        raise UsageError(f'a detector with the decoder {type(head).__name__} cannot be exported: only '
                         'DEQDetRoIHead and FFNDetRoIHead can, because they do not pool regions (RoIAlign)',
                         'unsupported-decoder')
    if isinstance(model.rpn_head, RegionQueryHead):
        raise UsageError('a detector with RegionQueryHead cannot be exported, because the number of its '
                         'proposals depends on the image; FixPositionEmbeddingRPNHead can be exported',
                         'export-unsupported')
    model.eval().requires_grad_(False)
    candidates = model.rpn_head.num_proposals * head.bbox_head[-1].num_classes
    count, masks = min(head.prediction.max_per_img, candidates), masks and head.with_mask
    return Parts(
        front=Front(model, masks),
        refinement=None if isinstance(head, FFNDetRoIHead) else RecordedRefinement(head),
        selection=MaskedSelection(count, head.mask_head[-1]) if masks else Selection(count))
