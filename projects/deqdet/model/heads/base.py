"""Base of the DEQ head and the stacked head: building, checks, selection of detections."""

from abc import abstractmethod
from typing import Annotated, Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from mmdet.models.task_modules import MaxIoUAssigner
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.logging import print_log
from mmengine.model import ModuleList
from pydantic import Field
from torch import Tensor, nn

from ...compat.checkpoint_loading import UNUSED_TENSORS
from ...errors import UsageError
from ...settings import Positive, check_whole, checked
from ..criterion import SetCriterion
from ..layer_protocol import check_layers
from ..masks import build_mask_heads
from ..sampling import FeaturePyramid, check_back_end, make_pyramid
from ..state import DecoderState
from ..targets import Pairs, Targets
from .detections import SelectsDetections
from .prediction import PredictionSettings
from .solving import check_matching

Strides = Annotated[Sequence[Positive], Field(
    min_length=1, description='a list with the stride of each level, whole numbers of 1 or more')]
MaskConfig = Union[dict, List[dict], None]


def layer_configs(bbox_head: Union[dict, List[dict], None], numbers: Sequence[int], *,
                  name: str) -> List[dict]:
    """Layer configs as a list, from a list or a single dict.

    Args:
        bbox_head (dict or list[dict], optional): ``bbox_head`` of the config.
        numbers (Sequence[int]): Allowed numbers of entries.
        name (str): Name of the head in messages.

    Raises:
        UsageError: If the number of entries is not allowed.
    """
    entries: List[dict] = [] if bbox_head is None else (
        list(bbox_head) if isinstance(bbox_head, (list, tuple)) else [bbox_head])
    if len(entries) not in numbers:
        allowed = ' or '.join(map(str, sorted(set(numbers))))
        raise UsageError(f'{name}: bbox_head must have {allowed} entries, not {len(entries)}', 'bad-setting')
    return entries


def train_entries(train_cfg: Union[dict, Sequence[dict], None]) -> List[dict]:
    """``train_cfg.rcnn`` as a list; empty if the head only predicts."""
    if train_cfg is None:
        return []
    return [train_cfg] if isinstance(train_cfg, dict) else list(train_cfg)


def check_trains(criterion: Any) -> None:
    """Refuse losses of a head that was built without a criterion."""
    if not criterion:
        raise UsageError('the head was built without train_cfg.rcnn, so it has no losses; to train, add '
                         'model.train_cfg to the config', 'bad-config')


class QueryRoIHead(SelectsDetections, BaseRoIHead):
    """Base of the heads: decoder layers that refine the queries of the proposals.

    ::

        proposals -> initial_state -> (subclass: layers, losses) -> select -> detections

    Args:
        featmap_strides (Sequence[int]): Pixels of the input per feature cell, for each level.
        frozen_stages (int): The first k decoder layers stay in eval mode, without gradient.
        bbox_head (list[dict]): Configs of the decoder layers, one for each layer.
        train_cfg (dict or list[dict], optional): Assigner and sampler for all layers; of a list the first
            entry is used.
        test_cfg (dict, optional): How to predict, see :class:`PredictionSettings`: ``max_per_img``,
            ``score_thr``, ``nms``, and the solving settings of a subclass.
        mask_head (dict or list[dict], optional): Mask head of all layers, or one for each; each
            layer has its own weights. None predicts boxes only.
        sampling (str): Back end of the sampling, see :func:`make_pyramid`.
        init_cfg (dict, optional): mmengine's initialisation.
        default_refinements (int): Refinements of a prediction if ``test_cfg`` does not set them.

    Raises:
        UsageError: If the arguments do not fit together.
    """

    @checked
    def __init__(self,
                 *,
                 featmap_strides: Strides,
                 frozen_stages: int,
                 bbox_head: List[dict],
                 train_cfg: Optional[Union[dict, List[dict]]],
                 test_cfg: Optional[dict],
                 mask_head: MaskConfig,
                 sampling: str,
                 init_cfg: Optional[dict],
                 default_refinements: int = 0) -> None:
        check_back_end(sampling)
        check_whole(frozen_stages, name=f'{type(self).__name__}: frozen_stages', least=0, most=len(bbox_head),
                    why='the number of decoder layers')
        check_matching(train_cfg, masks=mask_head is not None)
        super().__init__(
            bbox_head=bbox_head, train_cfg=train_cfg, test_cfg=test_cfg, init_cfg=init_cfg)
        check_layers(self.bbox_head, name=type(self).__name__)
        self.set_prediction(test_cfg, default_refinements=default_refinements)
        self.featmap_strides = tuple(featmap_strides)
        self.frozen_stages = frozen_stages
        self.sampling = sampling
        if mask_head is not None:
            self.mask_head = build_mask_heads(
                mask_head, self.bbox_head, train_cfgs=train_entries(train_cfg)[:1] * len(bbox_head),
                strides=self.featmap_strides, name=type(self).__name__)
        for module in self.frozen_modules:
            module.requires_grad_(False)
        self._register_load_state_dict_pre_hook(self._drop_leftovers)

    def init_bbox_head(self, bbox_roi_extractor: None, bbox_head: List[dict]) -> None:
        """Build the decoder layers; they sample points instead of using a RoI extractor."""
        self.bbox_head = ModuleList(MODELS.build(layer) for layer in bbox_head)

    def init_mask_head(self, *args, **kwargs) -> None:
        """Not used: the constructor builds the mask heads, which need the decoder layers."""

    def init_assigner_sampler(self) -> None:
        """Build the criterion; without ``train_cfg`` the head can only predict."""
        entries = train_entries(self.train_cfg)
        self.criterion: Any = SetCriterion(entries[0]) if entries else None

    @property
    def frozen_modules(self) -> List[nn.Module]:
        """The frozen decoder layers and their mask heads."""
        heads = [self.bbox_head, *([self.mask_head] if self.with_mask else [])]
        return [module for each in heads for module in each[:self.frozen_stages]]

    def train(self, mode: bool = True) -> 'QueryRoIHead':
        """Set the mode; frozen layers stay in eval mode."""
        super().train(mode)
        for module in self.frozen_modules:
            module.eval()
        return self

    def initial_state(self, rpn_results_list: InstanceList) -> DecoderState:
        """The proposals (``bboxes`` and ``features`` of each image) as a state without logits."""
        box = torch.stack([result.bboxes for result in rpn_results_list])
        content = torch.stack([result.features for result in rpn_results_list])
        return DecoderState.from_boxes(box, content)

    def pyramid(self, features: Sequence[Tensor], sampling: Optional[str] = None) -> FeaturePyramid:
        """Prepare feature levels for sampling by all layers.

        Args:
            features (Sequence[Tensor]): Levels, has shape (B, C_f, H_l, W_l).
            sampling (str, optional): Back end; by default that of the head.
        """
        return make_pyramid(features, self.featmap_strides, sampling or self.sampling)

    def apply_layer(self, index: int, pyramid: FeaturePyramid, state: DecoderState) -> DecoderState:
        """Apply decoder layer ``index`` once."""
        return self.bbox_head[index](pyramid, state)

    def loss(self, x: Tuple[Tensor, ...], rpn_results_list: InstanceList,
             batch_data_samples: SampleList) -> Dict[str, Tensor]:
        """Losses of a batch; this runs no backward pass.

        Args:
            x (tuple[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l).
            rpn_results_list (list[:obj:`InstanceData`]): Proposals of each image.
            batch_data_samples (list[:obj:`DetDataSample`]): Annotated samples.

        Returns:
            dict[str, Tensor]: Losses by state, see :class:`SetCriterion`.
        """
        check_trains(self.criterion)
        self.check_features(x, batch_data_samples)
        state = self.initial_state(rpn_results_list)
        targets = Targets.from_samples(
            batch_data_samples, num_classes=self.bbox_head[-1].num_classes,
            num_queries=state.content.shape[1])
        return self.state_losses(self.pyramid(x), state, targets, x)

    def pairs_of_proposals(self, state: DecoderState, targets: Targets) -> Pairs:
        """Queries and objects matched by the boxes of the proposals, see ``match_at``."""
        return self.criterion.match(state, targets, 'the proposals')

    def check_matches_proposals(self) -> None:
        """Refuse ``match_at='proposals'`` with an assigner that needs class scores, which proposals lack.

        Raises:
            UsageError: If it does.
        """
        if self.criterion and not isinstance(self.criterion.assigner, MaxIoUAssigner):
            raise UsageError(
                f"{type(self).__name__}: match_at='proposals' needs an assigner by overlap, but "
                f"train_cfg.rcnn.assigner is {type(self.criterion.assigner).__name__}; use MaxIoUAssigner, "
                "or match_at='each'", 'settings-mismatch')

    @abstractmethod
    def state_losses(self, pyramid: FeaturePyramid, state: DecoderState, targets: Targets,
                     features: Sequence[Tensor]) -> Dict[str, Tensor]:
        """Losses of all supervised states, from the proposals' state; the losses may use the features."""

    @abstractmethod
    def decode(self, pyramid: FeaturePyramid, state: DecoderState, batch_data_samples: SampleList, *,
               settings: Optional[PredictionSettings] = None) -> DecoderState:
        """The final state, from the proposals' state; detections are selected from it."""

    def predict(self, x: Tuple[Tensor, ...], rpn_results_list: InstanceList,
                batch_data_samples: SampleList, rescale: bool = False, *,
                settings: Optional[PredictionSettings] = None) -> InstanceList:
        """Detections of a batch.

        Args:
            x (tuple[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l).
            rpn_results_list (list[:obj:`InstanceData`]): Proposals of each image.
            batch_data_samples (list[:obj:`DetDataSample`]): Samples, for their meta information.
            rescale (bool): Return boxes in pixels of the original image.
            settings (PredictionSettings, optional): Settings of this call; by default those of the head.

        Returns:
            list[:obj:`InstanceData`]: ``scores``, has shape (K,), sorted; ``labels``, has shape (K,);
            ``bboxes`` (x1, y1, x2, y2), has shape (K, 4), not clipped; with a mask head ``masks``,
            booleans, has shape (K, H, W).
        """
        settings = self.settings_or_own(settings)
        state = self.forward(x, rpn_results_list, batch_data_samples, settings=settings)
        metas = [sample.metainfo for sample in batch_data_samples]
        return self.select_all(x, state, metas, rescale, settings)

    def forward(self, x: Tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList,
                *, settings: Optional[PredictionSettings] = None) -> DecoderState:
        """The decoded state of a batch, before the selection of detections."""
        self.check_features(x, batch_data_samples)
        return self.decode(self.pyramid(x), self.initial_state(rpn_results_list), batch_data_samples,
                           settings=settings)

    def check_features(self, features: Sequence[Tensor], batch_data_samples: SampleList) -> None:
        """Check that strides and channels match the levels of the neck.

        Raises:
            UsageError: If they do not match.
        """
        name = type(self).__name__
        if len(features) != len(self.featmap_strides):
            raise UsageError(
                f'{name}: featmap_strides={self.featmap_strides} has {len(self.featmap_strides)} levels but '
                f'the neck gives {len(features)}: set the stride of each level in '
                'model.roi_head.featmap_strides, and the number of levels in model.neck.num_outs',
                'settings-mismatch')
        channels = self.bbox_head[-1].feat_channels
        if features[0].shape[1] != channels:
            raise UsageError(f'{name}: the neck gives {features[0].shape[1]} channels but bbox_head has '
                             f'feat_channels={channels}; make neck.out_channels and feat_channels equal',
                             'settings-mismatch')
        shape = batch_data_samples[0].metainfo.get('batch_input_shape')
        for stride, feature in zip(self.featmap_strides, features) if shape else ():
            for pixels, cells in zip(shape, feature.shape[-2:]):
                # A backbone may round an odd size up or down.
                if abs(cells * stride - pixels) >= stride:
                    raise UsageError(
                        f'{name}: featmap_strides={self.featmap_strides} does not fit the neck: a level of '
                        f'{cells} cells for {pixels} pixels has stride {round(pixels / cells)}, not {stride}',
                        'settings-mismatch')

    @staticmethod
    def _drop_leftovers(state_dict, prefix, *args):
        """Remove unused tensors of released checkpoints, and report them in one line."""
        layers = f'{prefix}bbox_head.'  # mask heads use tensors of this name
        leftovers = [key for key in state_dict if key.startswith(layers) and UNUSED_TENSORS in key]
        for key in leftovers:
            del state_dict[key]
        if leftovers:
            print_log(f'{len(leftovers)} tensors of the checkpoint are ignored, because nothing uses them '
                      f'(*{UNUSED_TENSORS}*)', logger='current')
