"""Sparse R-CNN with a deep equilibrium decoder: two heads; the second is solved to its fixed point."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmdet.models.roi_heads import SparseRoIHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import InstanceList
from mmengine.model import ModuleList
from pydantic import Field
from torch import Tensor

from ...equilibrium import (
    AFTER_START,
    PATH,
    START,
    Disturbance,
    PathObserver,
    Perturbation,
    Recipe,
    SolvingPath,
    Supervised,
    recomputed,
)
from ...errors import UsageError
from ...settings import Share, Size, Steps, checked
from ..class_losses import check_losses
from ..criterion import SetCriterion
from ..layer_protocol import check_same
from ..masks import build_mask_heads
from ..state import BoxState, perturb_box, perturb_content
from ..targets import Targets
from .base import MaskConfig, check_trains, layer_configs, train_entries
from .detections import SelectsDetections
from .prediction import PredictionSettings
from .solving import build_solver, check_matching
from .supervision import losses_of, on_path

# First stages, all supervised: head 0, then head 1 twice.
INITIAL_STAGES = 3
# Applications of head 1 with gradient at each supervision position.
UNROLLED_STEPS = 2
#: Published names of the losses.
LOSS_NAMES = {START: 'init^{}.', AFTER_START: 'init^{}.', PATH: 'iter{}.'}

Features = Tuple[Tensor, ...]


@MODELS.register_module()
class DEQ_SparseRoIHead(SelectsDetections, SparseRoIHead):
    """Deep equilibrium decoder of Sparse R-CNN (supplement, Table 2).

    ::

        training    y0 = head 0(x, proposals) -> head 1 -> head 1 (with gradient) -> losses init^0, 1, 2.
                    y0 -> perturb -> head 1 -> ... num_stages times, without gradient
                           at each t of Omega: detached -> head 1 -> head 1 ---> loss iter{t}.
        prediction  y0 = head 0(x, proposals) -> head 1, num_stages - 1 times -> detections

    RoI features, heads and box decoding are those of mmdet's ``SparseRoIHead``. All stages from 1 on are the
    same head; the state dict contains it once per stage.

    Args:
        num_stages (int): Length of the solving path in training. It is also the number of stages of a
            prediction, including head 0, unless ``test_cfg.num_stages`` is set.
        stage_loss_weights (Sequence[float], optional): One for each stage, 1 by default. The first three are
            for the initial stages, the second one also for all of Omega.
        proposal_feature_channel (int): Width of the object features.
        supervision_position (Sequence[int], optional): Omega, steps counted from 1, by default
            1, 3, 6, 9, 12 and ``num_stages``. Steps that are not on the path are ignored.
        perturb_content_prob, perturb_position_prob (float): Probabilities of noise.
        perturb_content_intensity (float): Content noise relative to the norm.
        perturb_position_intensity (float): Position noise in pixels.
        solver (dict, optional): Solver of the training path, see :func:`build_solver`; plain iteration by
            default. Prediction uses ``test_cfg.solver`` and ``test_cfg.tolerance`` instead.
        grad_accumulation (bool): The backward pass recomputes each application of a head with gradient, see
            :class:`DEQDetRoIHead`. Losses and gradients stay the same.
        bbox_roi_extractor (dict): RoI extractor of all stages.
        bbox_head (dict or list[dict]): One config for both heads, one for each head, or one for each stage;
            in the last case all entries from the second on must be equal.
        mask_head (dict or list[dict], optional): Mask head of both heads, or one for each.
        train_cfg (dict or list[dict], optional): Assigner and sampler. In a list the first entry is for
            head 0, the second one, if it exists, for head 1.
        test_cfg (dict, optional): How to predict, see :class:`PredictionSettings`: ``max_per_img``,
            ``score_thr``, ``nms``, ``num_stages``, ``solver``, ``tolerance``.
        mask_roi_extractor: Accepted for published configs, without effect.
        init_cfg (dict, optional): mmengine's initialisation.

    Raises:
        UsageError: If the arguments do not fit together.
    """

    test_settings = ('num_stages', 'solver', 'tolerance')

    @checked
    def __init__(self,
                 num_stages: Annotated[int, Field(ge=INITIAL_STAGES)] = 6,
                 stage_loss_weights: Optional[Sequence[float]] = None,
                 proposal_feature_channel: int = 256,
                 supervision_position: Optional[Steps] = None,
                 perturb_content_prob: Share = 0.2,
                 perturb_position_prob: Share = 0.2,
                 perturb_content_intensity: Size = 0.1,
                 perturb_position_intensity: Size = 25,
                 grad_accumulation: bool = True,
                 bbox_roi_extractor: Optional[dict] = None,
                 mask_roi_extractor: Optional[dict] = None,
                 bbox_head: Union[dict, List[dict], None] = None,
                 mask_head: MaskConfig = None,
                 train_cfg: Union[dict, List[dict], None] = None,
                 test_cfg: Optional[dict] = None,
                 init_cfg: Optional[dict] = None,
                 solver: Optional[dict] = None) -> None:
        check_matching(train_cfg, used=2, masks=mask_head is not None)
        weights = [1] * num_stages if stage_loss_weights is None else stage_loss_weights
        if len(weights) != num_stages:
            raise UsageError(f'DEQ_SparseRoIHead: stage_loss_weights has {len(weights)} entries but '
                             f'num_stages={num_stages}; remove it for a weight of 1', 'settings-mismatch')
        if bbox_roi_extractor is None:
            raise UsageError('DEQ_SparseRoIHead: bbox_roi_extractor is missing; add it to roi_head',
                             'bad-config')
        super().__init__(
            num_stages=num_stages, stage_loss_weights=weights,
            proposal_feature_channel=proposal_feature_channel, bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=_head_configs(bbox_head, num_stages), test_cfg=test_cfg, init_cfg=init_cfg,
            # mmdet would build one assigner per stage; here the criteria below do the matching.
            train_cfg=None)
        _check_heads(self.bbox_head[:2], proposal_feature_channel)
        self.set_prediction(test_cfg, default_refinements=num_stages - 1)
        self.train_cfg = train_cfg
        entries = train_entries(train_cfg)
        entries = [*entries[:1], *(entries[1:2] or entries[:1])]
        #: Criteria of head 0 and head 1; empty without ``train_cfg``, then the head can only predict.
        self.criteria = [SetCriterion(entry) for entry in entries]
        if mask_head is not None:
            self.mask_head = build_mask_heads(mask_head, self.bbox_head[:2], train_cfgs=entries, strides=None,
                                              name='DEQ_SparseRoIHead')
        self.recipe = Recipe(
            on_path((1, 3, 6, 9, 12, num_stages) if supervision_position is None else supervision_position,
                    num_stages, name='DEQ_SparseRoIHead', length='num_stages'),
            unrolled=UNROLLED_STEPS, after_start=INITIAL_STAGES - 1)
        self.solver = build_solver(solver, name='roi_head.solver')
        self.grad_accumulation = grad_accumulation
        #: Records the next training paths, see :class:`EquilibriumHook`.
        self.observer: Optional[PathObserver] = None
        # The box comes first: seed-exact runs depend on the order.
        self.perturbation = Perturbation([
            Disturbance(perturb_position_prob, partial(perturb_box, intensity=perturb_position_intensity)),
            Disturbance(perturb_content_prob,
                        partial(perturb_content, intensity=perturb_content_intensity)),
        ])

    def init_bbox_head(self, bbox_roi_extractor: dict, bbox_head: List[dict]) -> None:
        """Build two heads; the second one is the entry of every stage from 1 on."""
        first, shared = (MODELS.build(head) for head in bbox_head)
        extractor = MODELS.build(bbox_roi_extractor)
        self.bbox_head = ModuleList([first] + [shared] * (self.num_stages - 1))
        self.bbox_roi_extractor = ModuleList([extractor] * self.num_stages)

    def initial_state(self, rpn_results_list: InstanceList) -> BoxState:
        """The proposals (``bboxes`` and ``features`` of each image) as a state without logits."""
        return BoxState(box=torch.stack([result.bboxes for result in rpn_results_list]),
                        content=torch.stack([result.features for result in rpn_results_list]))

    def apply_stage(self, stage: int, features: Features, metas: List[dict],
                    state: BoxState) -> BoxState:
        """Apply the head of a stage once.

        Gradients run through the contents from stage to stage, but not through the boxes; only stage 0
        passes gradients to the boxes of the proposals.

        Args:
            stage (int): 0 for the initial head, others for the shared one.
            features (tuple[Tensor]): Feature levels, has shape (B, C, H_l, W_l).
            metas (list[dict]): Meta information of each image.
            state (BoxState): State before.

        Returns:
            BoxState: State after, with class scores.
        """
        box = state.box if stage == 0 else state.box.detach()
        results = self._bbox_forward(stage, features, bbox2roi(list(box)), state.content, metas)
        return BoxState(box=results['decoded_bboxes'].view_as(box), content=results['object_feats'],
                        logits=results['cls_score'])

    def loss(self, x: Features, rpn_results_list: InstanceList,
             batch_data_samples: SampleList) -> Dict[str, Tensor]:
        """Losses of a batch, see :meth:`QueryRoIHead.loss`.

        Returns:
            dict[str, Tensor]: Losses with keys ``init^{stage}.*`` and ``iter{t}.*``.
        """
        check_trains(self.criteria)
        metas = [sample.metainfo for sample in batch_data_samples]
        state = self.initial_state(rpn_results_list)
        targets = Targets.from_samples(
            batch_data_samples, num_classes=self.bbox_head[0].num_classes,
            num_queries=state.box.shape[1])
        # For steps with gradient: recompute the graph, or keep it.
        graph = recomputed if self.grad_accumulation else lambda step: step
        states = self.recipe.states(
            state, initialise=graph(partial(self.apply_stage, 0, x, metas)),
            refine=graph(partial(self.apply_stage, 1, x, metas)), solve=partial(self.training_path, x, metas))

        masks = self.mask_supervision(x, targets)

        def loss(each: Supervised, name: str) -> Dict[str, Tensor]:
            stage = 1 if each.stage == PATH else each.step
            number, weight = min(stage, 1), self.stage_loss_weights[stage]
            losses = self.criteria[number](self.bbox_head[number], each.state, targets, name, x,
                                           partial(masks.add, number, weight=weight))
            return {key: value * weight if 'loss' in key else value for key, value in losses.items()}

        losses = losses_of(states, loss, names=LOSS_NAMES, observer=self.observer)
        return {**losses, **masks.losses()}

    @torch.no_grad()
    def training_path(self, features: Features, metas: List[dict],
                      start: BoxState) -> SolvingPath[BoxState]:
        """``num_stages`` perturbed steps without gradient from ``start``, the state after stage 0."""
        return self.solver(
            SharedStage(self, features, metas), start, self.num_stages, perturb=self.perturbation,
            keep=self.recipe.positions, observe=self.observer)

    def fixed_point_problem(self, x: Features, rpn_results_list: InstanceList,
                            batch_data_samples: SampleList) -> Tuple[BoxState, 'SharedStage']:
        """The fixed-point problem of a prediction, see :meth:`DEQDetRoIHead.fixed_point_problem`."""
        metas = [sample.metainfo for sample in batch_data_samples]
        start = self.apply_stage(0, x, metas, self.initial_state(rpn_results_list))
        return start, SharedStage(self, x, metas)

    def forward(self, x: Features, rpn_results_list: InstanceList, batch_data_samples: SampleList, *,
                settings: Optional[PredictionSettings] = None) -> BoxState:
        """The decoded state of a batch, before the selection of detections."""
        metas = [sample.metainfo for sample in batch_data_samples]
        return self.decode(x, metas, self.initial_state(rpn_results_list), settings=settings)

    def decode(self, features: Features, metas: List[dict], state: BoxState, *,
               settings: Optional[PredictionSettings] = None) -> BoxState:
        """Apply stage 0 to the proposals' state, then ``num_stages`` - 1 refinements.

        The last one is a plain refinement after the solver, for every solver.
        """
        settings = self.settings_or_own(settings)
        start = self.apply_stage(0, features, metas, state)
        if not settings.refinements:
            return start
        stage = SharedStage(self, features, metas)
        return stage(settings.solver(stage, start, settings.steps, tolerance=settings.tolerance).final)

    def predict(self, x: Features, rpn_results_list: InstanceList, batch_data_samples: SampleList,
                rescale: bool = False, *, settings: Optional[PredictionSettings] = None) -> InstanceList:
        """Detections of a batch, see :meth:`QueryRoIHead.predict`."""
        return self._detect(x, [sample.metainfo for sample in batch_data_samples], rpn_results_list, rescale,
                            self.settings_or_own(settings))

    def predict_bbox(self, x: Features, batch_img_metas: List[dict], rpn_results_list: InstanceList,
                     rcnn_test_cfg: dict, rescale: bool = False) -> InstanceList:
        """:meth:`predict` with the images' meta information instead of samples, and a ``test_cfg.rcnn``."""
        return self._detect(x, batch_img_metas, rpn_results_list, rescale, self.prediction_of(rcnn_test_cfg))

    def _detect(self, x, metas, rpn_results_list, rescale, settings) -> InstanceList:
        state = self.decode(x, metas, self.initial_state(rpn_results_list), settings=settings)
        return self.select_all(x, state, metas, rescale, settings, layer=min(settings.refinements, 1))


@dataclass(frozen=True)
class SharedStage:
    """Head 1 with the features of a batch, as a step for solvers; the :class:`Refinement` of this decoder.

    Attributes:
        head (DEQ_SparseRoIHead): The decoder.
        features (tuple[Tensor]): Feature levels, has shape (B, C, H_l, W_l).
        metas (list[dict]): Meta information of each image.
    """

    head: DEQ_SparseRoIHead
    features: Features
    metas: List[dict]

    def __call__(self, state: BoxState) -> BoxState:
        """Apply the head once."""
        return self.head.apply_stage(1, self.features, self.metas, state)

    def restrict(self, images: Tensor) -> 'SharedStage':
        """The stage for the images with these indices, has shape (K,)."""
        return SharedStage(self.head, tuple(level[images] for level in self.features),
                           [self.metas[image] for image in images.tolist()])


def _head_configs(bbox_head, num_stages):
    """Configs of head 0 and head 1."""
    entries = layer_configs(bbox_head, (1, 2, num_stages), name='DEQ_SparseRoIHead')
    if any(entry != entries[1] for entry in entries[2:]):
        raise UsageError('DEQ_SparseRoIHead: all entries of bbox_head after the first must be equal, because '
                         'these stages share one head', 'settings-mismatch')
    return [entries[0], entries[min(1, len(entries) - 1)]]


def _check_heads(heads, width):
    """Check what mmdet would report only as a shape mismatch, or not at all."""
    for head in heads:
        if head.in_channels != width:
            raise UsageError(f'DEQ_SparseRoIHead: proposal_feature_channel={width} and bbox_head '
                             f'in_channels={head.in_channels} must be equal', 'settings-mismatch')
        check_losses(head, name='DEQ_SparseRoIHead: bbox_head')
    check_same(heads, 'num_classes', name='DEQ_SparseRoIHead')
