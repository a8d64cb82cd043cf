"""Detection in streams of images and frames, with a config and weights."""

import threading
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Union

import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.apis import DetInferencer
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import get_test_pipeline_cfg
from mmdet.visualization import get_palette
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.visualization import Visualizer

from ..compat.visualising import quiet_at_edges, use_text_fonts
from ..errors import UsageError
from ..images.drawing import DRAWING
from ..model.detector import DEQDet, predict_batch
from ..model.heads import PredictionSettings
from ..model.heads.warm_start import Equilibrium
from ..settings import Positive, check
from .frames import Frames
from .masks import encode_masks
from .model_files import check_device, classes_of, fitted_weights, open_config, read_weights
from .painting import drawable, with_masks
from .reading import Frame, ImageReader, as_bgr
from .settings import Tolerances, settings_of
from .windows import Tiling, detect_in_windows, tiling_of

# Images of 1 x 4000 and 4000 x 1 pixels in one batch would both be padded to 4000 x 4000. Portrait and
# landscape photographs in one batch have less than twice their own pixels.
_PADDING = 4


class StreamDetector(DetInferencer):
    """Base of :class:`DEQDetInferencer`, with the same arguments: a checked mmdet inferencer with streams."""

    def __init__(self,
                 config: Union[str, Path, Config, dict],
                 weights: Union[str, Path, None] = None,
                 device: Optional[str] = None,
                 *,
                 cfg_options: Optional[dict] = None,
                 untrained: bool = False,
                 trust_checkpoint: bool = False,
                 palette: str = 'none',
                 show_progress: bool = True) -> None:
        cfg = open_config(config, cfg_options)
        if weights is None and not untrained:
            raise UsageError('weights are missing: use a checkpoint, or untrained=True for a model that '
                             'finds nothing', 'missing-argument')
        check_device(device)
        self._trust = trust_checkpoint
        self._counting = threading.Lock()
        super().__init__(model=cfg, weights=None if weights is None else str(weights), device=device,
                         palette=palette, show_progress=show_progress)

    def images(self, inputs: Iterable[Union[str, np.ndarray]]) -> Iterator[Frame]:
        """Read images one by one; broken ones have a reason."""
        return self._reader.frames(inputs)

    def batches(self, inputs: Sequence[Union[str, np.ndarray]], batch_size: int = 1, *,
                tile: Optional[int] = None, overlap: Optional[float] = None, **settings: Any
                ) -> Iterator[List[Frame]]:
        """Detect batch by batch and keep nothing in memory. Broken files do not stop it.

        Args:
            inputs (Sequence[str or np.ndarray]): Paths, URLs, arrays.
            batch_size (int): Images in a batch; with ``tile``, windows of one image.
            tile, overlap, **settings: ``steps``, ``tol``, ``solver``, see :meth:`__call__`.

        Returns:
            Iterator[list[Frame]]: Batches; each includes the broken files among its inputs. With ``tile``,
            each has one image.

        Raises:
            UsageError: If a setting does not fit this decoder.
        """
        record = settings_of(self.model, **settings)  # now, not at the first batch
        check(batch_size, Positive, name='batch_size', argument=True)
        return self._detected(inputs, batch_size, record, tiling_of(tile, overlap))

    def _detected(self, inputs, batch_size, settings, tiling: Optional[Tiling] = None
                  ) -> Iterator[List[Frame]]:
        def detect(parts):
            chunk = [(None, self._transformed(part)) for part in parts]
            return self._samples(self.collate_fn(chunk)[1], settings=settings)

        if tiling is not None:
            for frame in self.images(inputs):
                yield [frame if frame.data is None else frame._replace(
                    data=None, sample=detect_in_windows(frame.data, tiling, batch_size, detect))]
            return
        for batch in self._prepared(inputs, batch_size):
            chunk = [(frame.input, frame.data) for frame in batch if frame.data is not None]
            samples = iter(self._samples(self.collate_fn(chunk)[1], settings=settings) if chunk else ())
            yield [frame if frame.data is None else frame._replace(data=None, sample=next(samples))
                   for frame in batch]

    def frames(self, video: Union[str, Path, Iterable[Union[np.ndarray, Frame]]], *, warm: bool = True,
               start: Optional[Equilibrium] = None, settings: Optional[PredictionSettings] = None,
               **words: Any) -> Iterator[Frame]:
        """Detect frame by frame and keep nothing in memory. Broken frames do not stop it.

        Args:
            video (str, Path or Iterable): Video file, folder of frames, or frames in order: BGR, uint8, each
                of shape (H, W, 3).
            warm (bool): Start each frame at the equilibrium of the last readable one. This saves time with
                ``tol``. It must be False for a decoder without an equilibrium.
            start (Equilibrium, optional): Start of the first frame.
            settings (PredictionSettings, optional): How each frame is solved. Alternatively:
            **words: ``steps``, ``tol``, ``solver``, see :meth:`__call__`.

        Raises:
            UsageError: If there are no frames, if a setting does not fit this decoder, or if ``warm`` is set
                and the decoder has no equilibrium.
        """
        if warm and not self.solves_equilibrium:
            raise UsageError(f'the decoder, {type(self.model.roi_head).__name__}, solves no equilibrium that '
                             'frames can share: use --cold (in Python warm=False)', 'unsupported-decoder')
        if settings is None:  # now, not at the first frame
            settings = settings_of(self.model, **words)
        frames = Frames(video) if isinstance(video, (str, Path)) else video
        return self._in_frames(frames, warm, start, settings)

    def _in_frames(self, frames, warm, last, settings) -> Iterator[Frame]:
        for number, frame in enumerate(frames):
            if isinstance(frame, np.ndarray):
                frame = Frame(frame, as_bgr(frame), number=number)
            frame = self._prepare(frame)
            if frame.data is None:
                yield frame
                continue
            _, data = self.collate_fn([(frame.input, frame.data)])
            start = [last if warm else None] if self.solves_equilibrium else None
            sample, = self._samples(data, settings=settings, start=start)
            last = sample.get('equilibrium')
            yield frame._replace(data=None, sample=sample, refinements=last and last.refinements)

    def _samples(self, data: dict, **settings: Any) -> SampleList:
        """Detections of a collated batch. Boolean masks do not outlive it: they become RLE."""
        samples = self.forward(data, **settings)
        for sample in samples:
            encode_masks(sample.pred_instances)
        return samples

    @property
    def solves_equilibrium(self) -> bool:
        """Whether the decoder solves an equilibrium that frames can share."""
        return hasattr(getattr(self.model, 'roi_head', None), 'predict_from_starts')

    @torch.no_grad()
    def forward(self, inputs: dict, steps: Optional[int] = None, tol: Optional[Tolerances] = None,
                solver: Union[str, dict, None] = None, *, settings: Optional[PredictionSettings] = None,
                start: Optional[List[Optional[Equilibrium]]] = None) -> SampleList:
        """Predict a collated batch.

        Args:
            inputs (dict): From :meth:`preprocess`.
            steps, tol, solver: See :meth:`__call__`.
            settings (PredictionSettings, optional): Replace these three.
            start (list, optional): Start of each image, None for the default start. With it, the samples
                have an ``equilibrium``.
        """
        if settings is None:
            settings = settings_of(self.model, steps=steps, tol=tol, solver=solver)
        if start is not None:
            return self.model.test_step(inputs, start=start, settings=settings)
        if settings is None:
            return self.model.test_step(inputs)
        if isinstance(self.model, DEQDet):
            return self.model.test_step(inputs, settings=settings)
        # A detector of mmdet with a head of this package, as in DEQ Sparse R-CNN.
        return predict_batch(self.model, **self.model.data_preprocessor(inputs, False), settings=settings)

    def paint(self, image: Union[str, np.ndarray], sample: DetDataSample, *, score: float = 0.3,
              show: bool = False, wait_time: float = 0, draw_pred: bool = True, draw_masks: bool = True
              ) -> np.ndarray:
        """Draw masks, if there are any, and boxes with mmdet's visualiser.

        Args:
            image (str or np.ndarray): File, or array: BGR, uint8, has shape (H, W, 3).
            sample (:obj:`DetDataSample`): The detections.
            score (float): Draw only detections above this score.
            show (bool): Open a window.
            wait_time (float): Seconds that the window stays; 0 waits for a key.
            draw_pred (bool): Draw detections at all.
            draw_masks (bool): Draw their masks.

        Returns:
            np.ndarray: BGR, uint8, has shape (H, W, 3).
        """
        picture = mmcv.bgr2rgb(self.read(image))
        drawn: Any = drawable(sample, picture.shape)
        if 'masks' in drawn.pred_instances:
            if draw_pred and draw_masks:
                picture = with_masks(picture, drawn.pred_instances, self.visualizer.dataset_meta['palette'],
                                     score=score)
            del drawn.pred_instances.masks
        with DRAWING:  # the visualiser keeps the image that it draws on
            self.visualizer.add_datasample(
                'image', picture, drawn, draw_gt=False, draw_pred=draw_pred, show=show,
                wait_time=wait_time, pred_score_thr=score)
            return mmcv.rgb2bgr(self.visualizer.get_image())

    def read(self, image: Union[str, np.ndarray]) -> np.ndarray:
        """An image before resizing, as displayed (BGR, uint8); a BrokenFileError if it cannot be read."""
        return as_bgr(image if isinstance(image, np.ndarray) else
                      self._reader.load(image)['img'].astype(np.uint8))

    @property
    def has_masks(self) -> bool:
        """Whether the detections have masks."""
        return bool(self.model.with_mask)

    @property
    def classes(self) -> Sequence[str]:
        """Class names."""
        return self.model.dataset_meta['classes']

    def _prepared(self, inputs: Iterable[Union[str, np.ndarray]], size: int) -> Iterator[List[Frame]]:
        """Batches of images with their data, including broken ones."""
        return in_batches(map(self._prepare, self.images(inputs)), size)

    def _prepare(self, frame: Frame) -> Frame:
        """A frame with its data after the test pipeline; a broken one stays as it is."""
        if frame.image is None:
            return frame
        return frame._replace(data=self._transformed(frame.data or self._reader.load(frame.image)))

    def _transformed(self, data: Any) -> dict:
        """A loaded image after the other steps of the test pipeline."""
        for step in self.pipeline.transforms[1:]:
            data = step(data)
        return data

    def _init_model(self, cfg: Config, weights: Optional[str], device: str = 'cpu') -> BaseModel:
        self._weights = weights
        # Without the weights: mmengine would read the file in a different way.
        return super()._init_model(cfg, None, device)

    def _load_weights_to_model(self, model: BaseModel, checkpoint: Optional[dict], cfg: Config) -> None:
        """mmdet's, after the checks. Missing weights or class names come from the model or the config."""
        weights, meta = model.state_dict(), {}
        if self._weights is not None:
            checkpoint = read_weights(self._weights, trust=self._trust)
            meta = checkpoint['meta']
            weights = fitted_weights(model, checkpoint['state_dict'], self._weights)
        known = dict(meta.get('dataset_meta') or {}, classes=classes_of(cfg, meta, model))
        super()._load_weights_to_model(model, dict(state_dict=weights, meta=dict(dataset_meta=known)), cfg)

    def _init_pipeline(self, cfg: Config) -> Compose:
        """mmdet's, without annotations; ``Resize`` keeps at least one pixel per side."""
        steps = [dict(step) for step in get_test_pipeline_cfg(cfg)
                 if not str(step['type']).endswith('Annotations')]
        for step in steps:
            if step['type'] in ('Resize', 'mmdet.Resize'):
                step['type'] = f'mmdet.{NonEmptyResize.__name__}'
        try:
            pipeline = super()._init_pipeline(Config(dict(
                test_dataloader=dict(dataset=dict(pipeline=steps)))))
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(f'the test pipeline of the config cannot be used: {error}',
                             'bad-config') from error
        self._reader = ImageReader(pipeline.transforms[0])
        return pipeline

    def _init_collate(self, cfg: Config) -> Callable:
        """mmdet's; it would warn of a missing registry if the config names no ``collate_fn``."""
        return super()._init_collate(cfg) if cfg.test_dataloader.get('collate_fn') else pseudo_collate

    def _init_visualizer(self, cfg: Config) -> Visualizer:
        """mmdet's, without back ends that write files."""
        kept = {**(cfg.get('visualizer') or dict(type='DetLocalVisualizer', name='visualizer')),
                'vis_backends': None}
        visualizer: Any = quiet_at_edges(
            use_text_fonts(super()._init_visualizer(Config(dict(visualizer=kept)))))
        meta = visualizer.dataset_meta
        # mmdet would draw "random" colours again for each image, from numpy's global generator.
        visualizer.dataset_meta = {**meta, 'palette': get_palette(meta['palette'], len(meta['classes']))}
        return visualizer


def in_batches(frames: Iterable[Frame], size: int) -> Iterator[List[Frame]]:
    """Group frames into batches. Broken frames do not count towards the size.

    A batch ends early if the next image would make most of it padding.

    Args:
        frames (Iterable): The frames.
        size (int): Maximum number of images in a batch.
    """
    batch: List[Frame] = []
    images: List[dict] = []
    for frame in frames:
        if frame.data is not None and images and _mostly_padding([*images, frame.data]):
            yield batch
            batch, images = [], []
        batch.append(frame)
        images.extend([] if frame.data is None else [frame.data])
        if len(images) == size:
            yield batch
            batch, images = [], []
    if batch:
        yield batch


def _mostly_padding(batch: Sequence[dict]) -> bool:
    """Whether padding to one size gives many times the pixels of the images."""
    sizes = [data['inputs'].shape[-2:] for data in batch]
    padded = len(sizes) * max(height for height, _ in sizes) * max(width for _, width in sizes)
    return padded > _PADDING * sum(height * width for height, width in sizes)


@TRANSFORMS.register_module()
class NonEmptyResize(Resize):
    """mmdet's ``Resize``, but the shorter side of a very long image keeps at least one pixel."""

    def _resize_img(self, results: dict) -> None:
        height, width = results['img'].shape[:2]
        if not self.keep_ratio:
            super()._resize_img(results)
            return
        results['scale'] = tuple(max(1, side) for side in results['scale'])
        size = mmcv.rescale_size((width, height), results['scale'])
        if min(size) > 0:
            super()._resize_img(results)
            return
        results['img'], *factors = mmcv.imresize(
            results['img'], tuple(max(1, side) for side in size), return_scale=True,
            interpolation=self.interpolation, backend=self.backend)
        results.update(img_shape=results['img'].shape[:2], scale_factor=tuple(factors), keep_ratio=True)
