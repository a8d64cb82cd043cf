"""The deep equilibrium decoder: two layers; the second is solved to its fixed point."""

from functools import partial
from typing import Dict, List, Literal, Optional, Sequence, Tuple, Union

import torch
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.dist import broadcast
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
from ...settings import Count, Positive, Share, Size, Steps, checked
from ..sampling import FeaturePyramid, make_pyramid
from ..state import DecoderState, perturb_content, perturb_position
from ..targets import Pairs, Targets
from .base import MaskConfig, QueryRoIHead, layer_configs
from .compiled import Compiler
from .precision import HalfType, in_half_precision
from .prediction import PredictionSettings
from .refinement import Refinement
from .solving import build_solver
from .supervision import draw_positions, losses_of, on_path, weighted
from .warm_start import Equilibrium, equilibria_of, warm

#: Published names of the losses.
LOSS_NAMES = {START: 'init_', AFTER_START: 'init^{}_', PATH: 'iter{}_'}


@MODELS.register_module()
class DEQDetRoIHead(QueryRoIHead):
    """Deep equilibrium decoder (paper, section 3; supplement, Algorithm 2).

    ::

        training    y0 = g(x, proposals) ---------------------------------> loss init_
                    y0 -> f -> f (with gradient) --------------------------> losses init^1_, init^2_
                    y0 -> perturb -> f -> ... T times, without gradient
                           at each t of Omega: detached -> f -> f ---------> loss iter{t}_
        prediction  y0 = g(x, proposals) -> f, refinement_steps + 1 times -> detections

    Args:
        rag (int): Refinements with gradient at each supervision position.
        extra_supervisions_on_init_head (int): Refinements with gradient after the initialisation
            layer, each supervised.
        grad_accumulation (bool): Save memory: the backward pass recomputes each application of a layer with
            gradient (only its mixing, if that works in blocks: large inputs on a CPU). Then one application
            is in memory at a time, instead of 3 + ``rag`` x |Omega|. Losses and gradients stay the same.
        refinement_steps (int): T, steps of the solving path in training. Prediction takes this number, or
            ``test_cfg.refinement_steps`` if set, and one final refinement.
        featmap_strides (Sequence[int]): Pixels of the input per feature cell, for each level.
        supervision_position (Sequence[int]): Omega, steps counted from 1. Steps that are not on the path
            (0, or above T) are ignored.
        perturb_content_prob, perturb_position_prob (float): Probabilities of RAP's noise.
        perturb_content_intensity (float): Content noise relative to the norm.
        perturb_position_intensity (float): Position noise in pixels.
        use_init_head (bool): If False, there is no g: the path starts at the proposals, and f is
            ``bbox_head.0``.
        frozen_stages (int): The first k decoder layers stay in eval mode, without gradient.
        bbox_head (dict or list[dict]): The first entry builds g, the last one f.
        positions_per_iteration (int, optional): Number of supervision positions that an iteration draws, the
            same on all workers. Their losses have the weight |Omega| / number, so the expected gradient is
            that of all. The path ends at the last of them. By default all, as published.
        positions_per_batch (int, optional): Number of supervision positions that are unrolled as one batch.
            More is faster for small inputs and on a GPU, but needs more memory and rounds differently. By
            default 3 if the mixing works in blocks (then memory does not grow), else 1.
        solver (dict, optional): Solver of the training path, see :func:`build_solver`; plain iteration by
            default. Prediction uses ``test_cfg.solver`` and ``test_cfg.tolerance`` instead; the latter has
            limits for ``content`` (relative) and ``position`` (pixels) below which an image is solved.
        solve_dtype (str, optional): ``'bfloat16'`` or ``'float16'``: precision of the training path, if the
            device supports it. Steps with gradient and models in float64 ignore it. Prediction uses
            ``test_cfg.solve_dtype`` instead; its last ``test_cfg.finish_steps`` (2) steps and the final
            refinement are in float32.
        compile_refinement (bool): Compile the steps without gradient, on a GPU as a CUDA graph. It is faster
            for small inputs or fast devices, but compiling takes up to a minute. If it fails, one line
            reports this.
        shared_coins (bool): All workers perturb the same steps. Otherwise each worker draws its own coins.
        match_at (str): Where queries and objects are matched. ``'each'``, as published: at each supervised
            state, so the target of a query may change along the path. ``'start'``: at y_0, and all other
            states keep the pairs. ``'proposals'``: at the boxes of the proposals, so a query learns to stay
            near its own; needs an assigner by overlap and an ``rpn_head`` whose boxes mean something.
        train_cfg, test_cfg, mask_head, init_cfg, sampling: See :class:`QueryRoIHead`.
        dense_stride, encode_box, decode_box, bbox_roi_extractor, mask_roi_extractor: Accepted for
            published configs, without effect.

    Raises:
        UsageError: If the arguments do not fit together.
    """

    test_settings = ('refinement_steps', 'finish_steps', 'solve_dtype', 'solver', 'tolerance')

    @checked
    def __init__(self,
                 rag: Positive = 2,
                 extra_supervisions_on_init_head: Count = 2,
                 grad_accumulation: bool = True,
                 refinement_steps: Count = 20,
                 featmap_strides: Sequence[int] = (4, 8, 16, 32),
                 dense_stride: int = 4,
                 encode_box: Optional[object] = None,
                 decode_box: Optional[object] = None,
                 supervision_position: Steps = (0, 1, 2, 3, 4, 5),
                 perturb_content_prob: Share = 0.2,
                 perturb_position_prob: Share = 0.2,
                 perturb_content_intensity: Size = 0.1,
                 perturb_position_intensity: Size = 25,
                 use_init_head: bool = True,
                 frozen_stages: int = 0,
                 bbox_roi_extractor: Optional[dict] = None,
                 mask_roi_extractor: Optional[dict] = None,
                 bbox_head: Union[dict, List[dict], None] = None,
                 mask_head: MaskConfig = None,
                 train_cfg: Union[dict, List[dict], None] = None,
                 test_cfg: Optional[dict] = None,
                 init_cfg: Optional[dict] = None,
                 positions_per_iteration: Optional[Positive] = None,
                 positions_per_batch: Optional[Positive] = None,
                 solver: Optional[dict] = None,
                 solve_dtype: HalfType = None,
                 compile_refinement: bool = False,
                 shared_coins: bool = False,
                 match_at: Literal['each', 'start', 'proposals'] = 'each',
                 sampling: str = 'auto') -> None:
        layers = layer_configs(bbox_head, (1, 2), name='DEQDetRoIHead')
        if isinstance(mask_head, (list, tuple)) and len(mask_head) == 2 and not use_init_head:
            mask_head = mask_head[1:]
        super().__init__(
            featmap_strides=featmap_strides, frozen_stages=frozen_stages,
            bbox_head=[layers[0], layers[-1]] if use_init_head else [layers[-1]],
            train_cfg=train_cfg, test_cfg=test_cfg, mask_head=mask_head, sampling=sampling,
            init_cfg=init_cfg, default_refinements=refinement_steps + 1)
        self.solver = build_solver(solver, name='roi_head.solver')
        self.solve_dtype = solve_dtype
        #: Compiles the steps without gradient.
        self.compiler: Optional[Compiler] = Compiler() if compile_refinement else None
        self.rag = rag
        self.grad_accumulation = grad_accumulation
        self.positions_per_iteration = positions_per_iteration
        self.positions_per_batch = positions_per_batch
        self.shared_coins = shared_coins
        self.match_at = match_at
        if match_at == 'proposals':
            self.check_matches_proposals()
        #: Records the next training paths, see :class:`EquilibriumHook`.
        self.observer: Optional[PathObserver] = None
        self.extra_supervisions_on_init_head = extra_supervisions_on_init_head
        self.refinement_steps = refinement_steps
        self.supervision_position = tuple(sorted(set(supervision_position)))
        self.use_init_head = use_init_head
        self.perturbation = Perturbation([
            Disturbance(perturb_content_prob,
                        partial(perturb_content, intensity=perturb_content_intensity)),
            Disturbance(perturb_position_prob,
                        partial(perturb_position, intensity=perturb_position_intensity)),
        ])

    def initialise(self, pyramid: FeaturePyramid, state: DecoderState, *, classify: bool = True,
                   dtype: Optional[str] = None) -> DecoderState:
        """y_0: the initialisation layer applied to the proposals, or the proposals themselves.

        Args:
            pyramid (FeaturePyramid): Feature levels.
            state (DecoderState): The proposals' state.
            classify (bool): Compute logits too.
            dtype (str, optional): Half precision, if the path is solved in it.
        """
        if not self.use_init_head:
            return state
        layer = Refinement(self.bbox_head[0], pyramid, classify)
        return self._as_program(in_half_precision(layer, dtype))(state)

    def state_losses(self, pyramid: FeaturePyramid, state: DecoderState, targets: Targets,
                     features: Sequence[Tensor]) -> Dict[str, Tensor]:
        """Supervise y_0, the refinements after it, and the solving path at Omega.

        Returns:
            dict[str, Tensor]: Losses with keys ``init_*``, ``init^{i}_*`` and ``iter{t}_*``.
        """
        omega = on_path(self.supervision_position, self.refinement_steps,
                        name='DEQDetRoIHead', length='refinement_steps')
        supervised, weight = draw_positions(omega, self.positions_per_iteration)
        # For steps with gradient: recompute the graph, or keep it.
        in_blocks = self.bbox_head[-1].is_lean(state.content)
        graph = recomputed if self.grad_accumulation and not in_blocks else lambda step: step
        recipe = Recipe(
            supervised, unrolled=self.rag, after_start=self.extra_supervisions_on_init_head,
            start=self.use_init_head, positions_per_batch=self.positions_per_batch or (3 if in_blocks else 1))
        states = recipe.states(
            state, initialise=graph(partial(self.initialise, pyramid)),
            refine=graph(partial(self.apply_layer, -1, pyramid)),
            solve=partial(self.training_path, pyramid, keep=supervised))

        masks = self.mask_supervision(features, targets)
        matched = self.pairs_of_proposals(state, targets) if self.match_at == 'proposals' else None

        def loss(each: Supervised, name: str) -> Dict[str, Tensor]:
            index = 0 if each.stage == START else -1

            def report(name: str, state: DecoderState, pairs: Pairs) -> None:
                nonlocal matched
                if self.match_at == 'start':
                    matched = pairs
                masks.add(index, name, state, pairs)

            found = self.criterion(
                self.bbox_head[index], each.state, targets, name, features, report, pairs=matched)
            return weighted(found, weight) if each.stage == PATH else found

        losses = losses_of(states, loss, names=LOSS_NAMES, observer=self.observer)
        return {**losses, **masks.losses()}

    @torch.no_grad()
    def training_path(self, pyramid: FeaturePyramid, start: DecoderState,
                      keep: Sequence[int]) -> SolvingPath[DecoderState]:
        """Perturbed steps from y_0 without gradient; the states of the steps in ``keep`` are kept.

        There are T steps, or less if no later state is needed.
        """
        perturbation = self.perturbation
        if self.shared_coins:
            coins = torch.rand(self.refinement_steps, len(perturbation.disturbances))
            broadcast(coins)
            perturbation = perturbation.with_coins(coins)
        refinement = Refinement(self.bbox_head[-1], pyramid, classify=self.observer is not None)
        whole = self.positions_per_iteration is None or self.observer is not None
        steps = self.refinement_steps if whole else max(keep)
        return self.solver(
            self._as_program(in_half_precision(refinement, self.solve_dtype)), start, steps,
            perturb=perturbation, keep=keep, observe=self.observer)

    def _as_program(self, step):
        return step if self.compiler is None or torch.is_grad_enabled() else self.compiler(step)

    def pyramid(self, features: Sequence[Tensor], sampling: Optional[str] = None) -> FeaturePyramid:
        """Prepare feature levels for sampling, see :meth:`QueryRoIHead.pyramid`."""
        return make_pyramid(
            features, self.featmap_strides, sampling or self.sampling, compiled=self.compiler is not None)

    def fixed_point_problem(self, x: Sequence[Tensor], rpn_results_list: InstanceList,
                            batch_data_samples: SampleList) -> Tuple[DecoderState, Refinement]:
        """The fixed-point problem of a prediction, for callers with their own solver.

        Args:
            x, rpn_results_list, batch_data_samples: See :meth:`QueryRoIHead.predict`.

        Returns:
            tuple: y_0, and one refinement f(x, .).
        """
        self.check_features(x, batch_data_samples)
        pyramid = self.pyramid(x)
        return (self.initialise(pyramid, self.initial_state(rpn_results_list)),
                Refinement(self.bbox_head[-1], pyramid))

    def prediction_path(self, pyramid: FeaturePyramid, start: DecoderState, *,
                        settings: Optional[PredictionSettings] = None) -> SolvingPath[DecoderState]:
        """Solve the equilibrium of a prediction.

        Args:
            pyramid (FeaturePyramid): Feature levels.
            start (DecoderState): y_0, or another state to start from.
            settings (PredictionSettings, optional): Settings of this call; by default those of the head.

        Returns:
            SolvingPath: The path to the equilibrium, without logits.
        """
        settings = self.settings_or_own(settings)
        solver, steps = partial(settings.solver, tolerance=settings.tolerance), settings.steps
        precise = Refinement(self.bbox_head[-1], pyramid, classify=False)
        coarse = in_half_precision(precise, settings.solve_dtype)
        if coarse is precise:
            return solver(self._as_program(precise), start, steps)
        finish = min(settings.finish_steps, steps)
        path = solver(self._as_program(coarse), start, steps - finish)
        return path.followed_by(solver(self._as_program(precise), path.final, finish))

    def decode(self, pyramid: FeaturePyramid, state: DecoderState, batch_data_samples: SampleList, *,
               settings: Optional[PredictionSettings] = None) -> DecoderState:
        """Solve the equilibrium, and predict with one more refinement, see :meth:`QueryRoIHead.decode`."""
        settings = self.settings_or_own(settings)
        state = self.initialise(pyramid, state, classify=False, dtype=settings.solve_dtype)
        path = self.prediction_path(pyramid, state, settings=settings)
        return self.predict_from(pyramid, path.final)

    def predict_from_starts(
            self, x: Tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList,
            starts: Sequence[Optional[Equilibrium]], rescale: bool = False, *,
            settings: Optional[PredictionSettings] = None) -> Tuple[InstanceList, List[Equilibrium]]:
        """:meth:`predict` with given starts.

        Args:
            x, rpn_results_list, batch_data_samples, rescale, settings: See :meth:`predict`.
            starts (Sequence[Equilibrium or None]): For each image the equilibrium of a similar image; None
                starts at y_0.

        Returns:
            tuple: The detections and the equilibrium of each image.
        """
        settings = self.settings_or_own(settings)
        self.check_features(x, batch_data_samples)
        pyramid, state = self.pyramid(x), self.initial_state(rpn_results_list)
        if None in starts:
            state = self.initialise(pyramid, state, classify=False, dtype=settings.solve_dtype)
        path = self.prediction_path(pyramid, warm(state, batch_data_samples, starts, dtype=pyramid.dtype),
                                    settings=settings)
        state = self.predict_from(pyramid, path.final)
        steps = path.steps or [path.num_steps] * len(batch_data_samples)
        metas = [sample.metainfo for sample in batch_data_samples]
        return (self.select_all(x, state, metas, rescale, settings),
                equilibria_of(state, batch_data_samples, [count + 1 for count in steps]))

    def predict_from(self, pyramid: FeaturePyramid, state: DecoderState) -> DecoderState:
        """Apply one refinement to a state, with logits."""
        layer = self.bbox_head[-1]
        state = self._as_program(Refinement(layer, pyramid, classify=False))(state)
        return state._replace(logits=layer.classify(state.content))
