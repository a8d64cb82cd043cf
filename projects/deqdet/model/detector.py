"""The detector: it connects backbone, neck, proposals and decoder."""

from pickle import UnpicklingError
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmdet.models.detectors import SparseRCNN
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.logging import MessageHub, print_log
from torch import Tensor

from ..compat.pretrained import explain_missing_weights, resolve_pretrained
from ..dtypes import widened
from ..errors import NonFiniteError, UsageError
from ..settings import check_keys, checked
from .heads.precision import HalfType
from .heads.prediction import PredictionSettings, PredictsWithSettings
from .heads.warm_start import Equilibrium
from .neck import check_neck_input
from .region_proposals import RegionQueryHead


@MODELS.register_module()
class DEQDet(SparseRCNN):
    """Deep equilibrium object detector.

    ::

        images -> backbone -> neck -> features --+
        rpn_head -> proposals -------------------+-> roi_head -> losses or detections

    Args:
        inference_dtype (str, optional): ``'float16'`` or ``'bfloat16'``: precision of backbone and neck at
            inference; the decoder stays in float32. Off by default. The released models were measured with
            float16 on a GPU. Without effect after ``model.double()``.
        backbone, neck, rpn_head, roi_head, train_cfg, test_cfg, data_preprocessor, init_cfg: As in mmdet's
            ``SparseRCNN``.

    Raises:
        UsageError: If the arguments do not fit together.
    """

    @checked
    def __init__(self,
                 *,
                 backbone: dict,
                 rpn_head: dict,
                 roi_head: dict,
                 neck: Optional[dict] = None,
                 train_cfg: Optional[dict] = None,
                 test_cfg: Optional[dict] = None,
                 data_preprocessor: Optional[dict] = None,
                 init_cfg: Optional[dict] = None,
                 inference_dtype: HalfType = None) -> None:
        check_keys(train_cfg, ('rpn', 'rcnn'), name='model.train_cfg', others=('rpn_proposal', ))
        check_keys(test_cfg, ('rpn', 'rcnn'), name='model.test_cfg')
        super().__init__(
            backbone=backbone, neck=neck, rpn_head=rpn_head, roi_head=roi_head, train_cfg=train_cfg,
            test_cfg=test_cfg, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.inference_dtype = inference_dtype
        if not isinstance(self.rpn_head, RegionQueryHead):
            _name_unused(train_cfg, test_cfg)
        _check_queries(self.rpn_head, self.roi_head)
        if not getattr(self.roi_head, 'use_init_head', True):
            # The solving path starts from detached queries, so no loss trains their contents. A parameter
            # without gradient would stop distributed training.
            head: Any = self.rpn_head
            (head.init_proposal_features if isinstance(head, RegionQueryHead) else head).requires_grad_(False)

    def init_weights(self) -> None:
        """mmengine's initialisation pass, with an explanation if pretrained weights are missing.

        Raises:
            UsageError: If the pretrained weights of the backbone cannot be loaded.
        """
        init_cfg = getattr(self.backbone, 'init_cfg', None)
        pretrained = init_cfg if isinstance(init_cfg, dict) and init_cfg.get('checkpoint') else None
        if pretrained:
            pretrained['checkpoint'] = resolve_pretrained(pretrained['checkpoint'])
        try:
            super().init_weights()
        except (OSError, ImportError, EOFError, KeyError, UnpicklingError) as error:
            if pretrained is None:
                raise
            raise explain_missing_weights(
                error, pretrained['checkpoint'], 'model.backbone.init_cfg',
                getattr(self.backbone, 'weights_command', '')) from error

    def extract_feat(self, batch_inputs: Tensor) -> Tuple[Tensor, ...]:
        """Features of a batch.

        Args:
            batch_inputs (Tensor): Normalised images, has shape (B, 3, H, W).

        Returns:
            tuple[Tensor]: Feature levels, has shape (B, C_f, H_l, W_l) each.

        Raises:
            UsageError: If the backbone's levels do not match the neck, or if the input is no batch of images.
        """
        if not isinstance(batch_inputs, Tensor):
            raise UsageError(
                f'model.data_preprocessor gives a {type(batch_inputs).__name__}, not a batch of images: '
                "use model.data_preprocessor=dict(type='DetDataPreprocessor', ...)", 'bad-setting')
        if next(self.parameters()).dtype == torch.float64:
            batch_inputs = batch_inputs.double()  # a data preprocessor without a mean outputs float32
        if self.training or self.inference_dtype is None:
            return self._features(batch_inputs)
        dtype = getattr(torch, self.inference_dtype)
        with torch.autocast(batch_inputs.device.type, dtype=dtype):
            features = self._features(batch_inputs)
        return tuple(widened(level) for level in features)

    def _features(self, batch_inputs):
        levels = self.backbone(batch_inputs)
        if not self.with_neck:
            return levels
        try:
            return self.neck(levels)
        except (AssertionError, RuntimeError):
            # Checked only after an error, because some necks of mmdet take more levels than `in_channels`.
            check_neck_input(levels, backbone=self.backbone, neck=self.neck)
            raise

    def test_step(self, data: Union[dict, tuple, list], **options: Any) -> SampleList:
        """mmengine's step from a batch to detections.

        Args:
            data (dict or tuple or list): A batch of a data loader.
            **options: ``rescale``, ``start`` and ``settings`` of :meth:`predict`.
        """
        if not options:
            return super().test_step(data)
        return self(**self.data_preprocessor(data, False), mode='predict', **options)

    def forward(self, inputs: Tensor, data_samples: Optional[SampleList] = None, mode: str = 'tensor',
                **options: Any) -> Any:
        """As in mmdet: losses, detections or raw results, by ``mode``.

        Args:
            inputs (Tensor): Normalised images, has shape (B, 3, H, W).
            data_samples (list[:obj:`DetDataSample`], optional): Samples.
            mode (str): ``'loss'``, ``'predict'`` or ``'tensor'``.
            **options: With ``'predict'``, the further arguments of :meth:`predict`.
        """
        if options and mode == 'predict':
            return self.predict(inputs, data_samples, **options)
        return super().forward(inputs, data_samples, mode=mode, **options)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True,
                start: Optional[Sequence[Optional[Equilibrium]]] = None,
                settings: Optional[PredictionSettings] = None) -> SampleList:
        """Detections of a batch. The given samples are not changed.

        Args:
            batch_inputs (Tensor): Normalised images, has shape (B, 3, H, W).
            batch_data_samples (list[:obj:`DetDataSample`]): Samples, for their meta information.
            rescale (bool): Return boxes in pixels of the original image.
            start (Sequence[Equilibrium or None], optional): Start of each image: the ``equilibrium`` of a
                similar image, such as the last frame of a video or another view; None starts at y_0. With a
                tolerance, a good start needs fewer steps.
            settings (PredictionSettings, optional): Settings of this call, for example
                ``model.roi_head.prediction_with(refinement_steps=4)``. By default those of ``test_cfg``.

        Returns:
            list[:obj:`DetDataSample`]: New samples with ``pred_instances``, and with ``equilibrium`` if
            ``start`` is given.

        Raises:
            UsageError: If starts or settings do not fit.
        """
        return predict_batch(
            self, batch_inputs, batch_data_samples, rescale=rescale, start=start, settings=settings)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Dict[str, Tensor]:
        """Losses of a batch; the training loop runs the backward pass.

        Args:
            batch_inputs (Tensor): Normalised images, has shape (B, 3, H, W).
            batch_data_samples (list[:obj:`DetDataSample`]): Annotated samples.

        Returns:
            dict[str, Tensor]: Losses by state.

        Raises:
            NonFiniteError: If a loss or a matching cost is not finite. No weight has been updated then.
            UsageError: If annotations do not fit the model, or if images are too small for the backbone.
        """
        try:
            losses = super().loss(batch_inputs, batch_data_samples)
            _check_finite(losses)
        except NonFiniteError as error:
            iteration = MessageHub.get_current_instance().get_info('iter', 'unknown')
            paths = _paths(batch_data_samples)
            raise NonFiniteError(
                f'{error}; iteration {iteration}, images: {paths}. The training stops; saved checkpoints '
                'are not affected. Use a smaller learning rate, gradient clipping, or no --amp') from error
        except ValueError as error:
            # torch's message if a batch norm in training gets a level with a single cell.
            if 'more than 1 value per channel' not in str(error):
                raise
            raise UsageError(
                f'the images of a batch are too small for training ({_paths(batch_data_samples)}: '
                f'{batch_inputs.shape[-1]} x {batch_inputs.shape[-2]} px with padding): remove them, raise '
                'train_dataloader.batch_size, or set model.backbone.norm_eval=True', 'bad-image') from error
        return losses


def predict_batch(model: Any, inputs: Tensor, data_samples: SampleList, *, rescale: bool = True,
                  start: Optional[Sequence[Optional[Equilibrium]]] = None,
                  settings: Optional[PredictionSettings] = None) -> SampleList:
    """:meth:`DEQDet.predict`, also for mmdet's two-stage detectors with a head of this package.

    Args:
        model (nn.Module): A detector with an ``rpn_head`` and a ``roi_head``.
        inputs, data_samples, rescale, start, settings: See :meth:`DEQDet.predict`.
    """
    head, options = model.roi_head, {} if settings is None else dict(settings=settings)
    if start is not None and not hasattr(head, 'predict_from_starts'):
        raise UsageError(f'start: a {type(head).__name__} solves no equilibrium; remove start',
                         'unsupported-decoder')
    if start is not None and len(start) != len(data_samples):
        raise UsageError(f'start has {len(start)} entries for {len(data_samples)} images; give one for each '
                         'image', 'bad-argument')
    # Two calls may get the same samples, so each call writes its results to new ones.
    samples: List[Any] = [sample.new() for sample in data_samples]
    for sample in samples:
        sample.pop('equilibrium', None)
    features = model.extract_feat(inputs)
    proposals = model.rpn_head.predict(features, samples, rescale=False)
    if start is None:
        found = head.predict(features, proposals, samples, rescale=rescale, **options)
    else:
        found, equilibria = head.predict_from_starts(
            features, proposals, samples, start, rescale=rescale, **options)
        for sample, equilibrium in zip(samples, equilibria):
            sample.set_field(equilibrium, 'equilibrium')
    return model.add_pred_to_datasample(samples, found)


def _paths(batch_data_samples):
    return ', '.join(str(sample.metainfo.get('img_path', 'without path')) for sample in batch_data_samples)


def _name_unused(train_cfg, test_cfg):
    """Report settings of mmdet that have no effect here, one line each."""
    for name, part, keys in (('model.train_cfg', train_cfg, ('rpn', 'rpn_proposal')),
                             ('model.test_cfg', test_cfg, ('rpn', ))):
        for key in keys:
            if (part or {}).get(key):
                print_log(f'{name}.{key} has no effect: the model has no region proposal network; remove it',
                          logger='current', level=30)


def _check_finite(losses):
    names = [name for name in losses if 'loss' in name]
    values = torch.stack([widened(losses[name].detach()).sum() for name in names])
    if not torch.isfinite(values).all():
        bad = [f'{name} = {value}' for name, value in zip(names, values.tolist())
               if not torch.isfinite(torch.tensor(value))]
        raise NonFiniteError('loss is not finite: ' + ', '.join(bad))


def _check_queries(rpn_head, roi_head):
    """Check that proposals, decoder and selection match; only the detector knows all of them."""
    strides = [stride[0] for stride in rpn_head.prior_generator.strides] if isinstance(
        rpn_head, RegionQueryHead) else []
    levels = list(getattr(roi_head, 'featmap_strides', strides))
    if strides and strides != levels[-len(strides):]:
        raise UsageError(
            f'RegionQueryHead: anchor_generator.strides={strides} must be the last ones of '
            f'roi_head.featmap_strides={levels}', 'settings-mismatch')
    queries, width = rpn_head.num_proposals, rpn_head.proposal_feature_channel
    for layer in roi_head.bbox_head:
        if getattr(layer, 'content_dim', width) != width:
            raise UsageError(
                f'DEQDet: rpn_head.proposal_feature_channel={width} and bbox_head content_dim='
                f'{layer.content_dim} must be equal', 'settings-mismatch')
    classes = roi_head.bbox_head[-1].num_classes
    if not isinstance(roi_head, PredictsWithSettings):  # a head of mmdet
        return
    max_per_img = roi_head.prediction.max_per_img
    if max_per_img > queries * classes:
        print_log(
            f'test_cfg.rcnn.max_per_img={max_per_img} is more than {queries} queries x {classes} classes: '
            f'an image has at most {queries * classes} detections', logger='current', level=30)
