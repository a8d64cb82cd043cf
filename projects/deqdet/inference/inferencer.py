"""mmdet's inferencer for the detectors of this package."""

import os.path as osp
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import mmcv
import mmengine
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import get_test_pipeline_cfg
from mmdet.visualization import get_palette
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.visualization import Visualizer
from rich.console import Console
from rich.progress import track

from ..compat.text_fonts import use_text_fonts
from ..compat.visualising import quiet_at_edges
from ..errors import UsageError
from ..model.heads import PredictionSettings
from .batching import check_batch_size, in_batches, refuse_broken
from .configs import open_config
from .formats import is_video
from .frames import Frames
from .inputs import collect, picture_name
from .loading import check_device, classes_of, fitted_weights, read_weights
from .painting import paint
from .reading import as_bgr, read_with
from .resizing import NonEmptyResize
from .settings import Tolerances, predict_with, settings_of
from .videos import detect_frames, video_name, write_video

Input = Union[str, Path, np.ndarray]

# What mmdet's inferencer knows, for images.
_OF_IMAGES = {'return_vis', 'show', 'wait_time', 'no_save_vis', 'draw_pred', 'pred_score_thr',
              'return_datasamples', 'print_result', 'no_save_pred', 'out_dir'}


class Detected(NamedTuple):
    """What was found in one input.

    Attributes:
        input (str or np.ndarray): The input.
        sample (:obj:`DetDataSample`, optional): ``pred_instances``, boxes (x1, y1, x2, y2) in pixels of the
            image as it is shown. None if the file is broken.
        reason (str): Why it is broken.
    """

    input: Union[str, np.ndarray]
    sample: Optional[DetDataSample]
    reason: str = ''


class DEQDetInferencer(DetInferencer):
    """Detects objects in images and videos: ``DEQDetInferencer(config, weights)('a.jpg', out_dir='found')``.

    It is mmdet's ``DetInferencer``: its arguments, results and hooks. What is added: steps, tolerance and
    solver of the equilibrium by call, checks of the checkpoint, folders with their subfolders, globs, videos,
    and images of any kind. Boxes are in pixels of the image as it is shown: EXIF orientation is applied, the
    alpha channel is left out, 16 bits become 8.

    Threads may share one inferencer: each call computes what it would compute alone.

    Args:
        config (str, Path, Config or dict): Path of a config, or the name of one that comes with the package.
        weights (str or Path, optional): Checkpoint (``.pth``, ``.safetensors``) or its URL.
        device (str, optional): Default: a GPU where there is one.
        cfg_options (dict, optional): Settings that override the config, by their dotted keys.
        untrained (bool): Do without weights.
        trust_checkpoint (bool): Read the checkpoint in full, which may run any code that is in it.
        palette (str): Colours of the boxes, see ``DetInferencer``.
        show_progress (bool): Show a bar.

    Raises:
        UsageError: If config, weights or device cannot be used, or do not belong together.
    """

    num_predicted_imgs: int

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
            raise UsageError('weights are missing: give a checkpoint, or say untrained=True for a model that '
                             'finds nothing')
        check_device(device)
        self._trust = trust_checkpoint
        self._counting = threading.Lock()
        super().__init__(model=cfg, weights=None if weights is None else str(weights), device=device,
                         palette=palette, show_progress=show_progress)

    def __call__(self,
                 inputs: Union[Input, Sequence[Input]],
                 steps: Optional[int] = None,
                 tol: Optional[Tolerances] = None,
                 solver: Union[str, dict, None] = None,
                 batch_size: int = 1,
                 *,
                 skip_broken: bool = False,
                 warm: bool = True,
                 **kwargs: Any) -> Dict[str, Any]:
        """Detect.

        Args:
            inputs: An image: a path, a URL, or an array (BGR as OpenCV has it, uint8, has shape (H, W, 3);
                (H, W) is grey); a folder, which is searched with all folders below it; a glob; a video, by
                itself; or a list of images, folders and globs.
            steps (int, optional): Refinements before the last one, at most, for this call.
            tol (float or dict, optional): An image is solved when a step moves it less: limits for
                ``content``, relative, and ``position``, in pixels of the network's input. A number t is
                ``dict(content=t, position=2.5 * t)``. For this call.
            solver (str or dict, optional): ``'iterate'``, ``'anderson'``, ..., for this call.
            batch_size (int): Images at a time, at most. Images of different sizes are padded to one size in a
                batch, which changes scores a little; those that would be mostly padding get another batch.
            skip_broken (bool): Pass over files that cannot be read, instead of stopping at the first.
            warm (bool): In a video each frame starts at the equilibrium of the last; it pays with ``tol``.
            **kwargs: ``out_dir`` (pictures go to ``out_dir/vis``), ``pred_score_thr`` (what is drawn, 0.3),
                ``return_vis``, ``return_datasamples``, ``no_save_vis``, ``no_save_pred``, ``show``, ... of
                mmdet's ``DetInferencer``.

        Returns:
            dict: ``predictions``, one an image: dict of ``labels``, ``scores``, ``bboxes`` (x1, y1, x2, y2),
            or :obj:`DetDataSample`; ``visualization``, RGB, uint8, where asked for; ``inputs``, the path of
            each (None of an array); ``broken``, dicts of ``input`` and ``reason``; of a video
            ``refinements`` of each frame, None without an equilibrium.

        Raises:
            UsageError: If an input cannot be had, or a setting makes no sense for this decoder.
        """
        settings = settings_of(self.model, steps=steps, tol=tol, solver=solver)  # before anything is read
        check_batch_size(batch_size)
        if isinstance(inputs, (str, Path)) and is_video(inputs):
            return self._call_on_video(Path(inputs).expanduser(), settings, warm=warm,
                                       skip_broken=skip_broken, **kwargs)
        unknown = sorted(set(kwargs) - _OF_IMAGES)
        if unknown:
            raise UsageError(f'{", ".join(unknown)}: no such argument; there are inputs, steps, tol, solver, '
                             f'batch_size, skip_broken, warm, {", ".join(sorted(_OF_IMAGES))}')
        return self._call_on_images(inputs, settings, batch_size, skip_broken, **kwargs)

    def batches(self, inputs: Sequence[Union[str, np.ndarray]], batch_size: int = 1, **settings: Any
                ) -> Iterator[List[Detected]]:
        """Detect batch by batch, without keeping anything; broken files do not stop it.

        Args:
            inputs (Sequence[str or np.ndarray]): Paths, URLs, arrays.
            batch_size (int): Images at a time.
            **settings: ``steps``, ``tol``, ``solver``, see :meth:`__call__`.

        Returns:
            Iterator[list[Detected]]: Batches, each with the broken files that were met while it was read.

        Raises:
            UsageError: If a setting makes no sense for this decoder.
        """
        record = settings_of(self.model, **settings)  # now, not at the first batch
        check_batch_size(batch_size)
        return self._detected(inputs, batch_size, record)

    def _detected(self, inputs, batch_size, settings) -> Iterator[List[Detected]]:
        for chunk, broken in self._chunks(inputs, batch_size):
            found = []
            if chunk:
                originals, data = self.collate_fn(chunk)
                found = [Detected(*each) for each in zip(originals, self.forward(data, settings=settings))]
            yield found + [Detected(path, None, reason) for path, reason in broken]

    @torch.no_grad()
    def forward(self, inputs: dict, steps: Optional[int] = None, tol: Optional[Tolerances] = None,
                solver: Union[str, dict, None] = None, *, settings: Optional[PredictionSettings] = None
                ) -> SampleList:
        """Predict a collated batch.

        Args:
            inputs (dict): What :meth:`preprocess` gives.
            steps, tol, solver: See :meth:`__call__`.
            settings (PredictionSettings, optional): In their place.
        """
        if settings is None:
            settings = settings_of(self.model, steps=steps, tol=tol, solver=solver)
        return predict_with(self.model, inputs, settings)

    def preprocess(self, inputs: Sequence[Any], batch_size: int = 1, skip_broken: bool = False
                   ) -> Iterator[Tuple[list, dict]]:
        """Inputs with their collated batches, read as they are asked for."""
        for chunk, broken in self._chunks(inputs, batch_size):
            refuse_broken(broken, skip_broken)
            if chunk:
                yield self.collate_fn(chunk)

    def visualize(self, inputs: Sequence[Union[str, np.ndarray]], preds: SampleList, return_vis: bool = False,
                  show: bool = False, wait_time: int = 0, draw_pred: bool = True,
                  pred_score_thr: float = 0.3, no_save_vis: bool = False, img_out_dir: str = '',
                  names: Optional[Sequence[str]] = None, **kwargs: Any) -> Optional[List[np.ndarray]]:
        """mmdet's, with pictures under ``names``; arrays are BGR."""
        out_dir = '' if no_save_vis else str(img_out_dir)
        if not (show or return_vis or out_dir):
            return None
        painted = []
        for each, sample, name in zip(inputs, preds, names or self._names_of(inputs, {})):
            picture = self.paint(each, sample, score=pred_score_thr, show=show, wait_time=wait_time,
                                 draw_pred=draw_pred)
            if out_dir:
                mmcv.imwrite(picture, osp.join(out_dir, 'vis', picture_name(name)))
            if return_vis:
                painted.append(mmcv.bgr2rgb(picture))
        return painted if return_vis else None

    def paint(self, image: Union[str, np.ndarray], sample: DetDataSample, *, score: float = 0.3,
              **kwargs: Any) -> np.ndarray:
        """An image with boxes, by mmdet's visualiser.

        Args:
            image (str or np.ndarray): File, or BGR, uint8, has shape (H, W, 3).
            sample (:obj:`DetDataSample`): What was found in it.
            score (float): Only what scores more is drawn.
            **kwargs: ``show``, ``wait_time``, ``draw_pred`` of :func:`paint`.

        Returns:
            np.ndarray: BGR, uint8, has shape (H, W, 3).
        """
        return paint(self.visualizer, self.read(image), sample, score=score, **kwargs)

    def read(self, image: Union[str, np.ndarray]) -> np.ndarray:
        """An image as it is shown and as the network gets it before resizing, BGR, uint8.

        Raises:
            BrokenFileError: If it cannot be read.
        """
        if isinstance(image, np.ndarray):
            return as_bgr(image)
        picture = read_with(self._loader.transform, image, self._loading)['img']
        return as_bgr(picture.astype(np.uint8))

    def postprocess(self, preds: SampleList, visualization: Optional[List[np.ndarray]] = None,
                    return_datasamples: bool = False, print_result: bool = False, no_save_pred: bool = False,
                    pred_out_dir: str = '', names: Optional[Sequence[str]] = None, **kwargs: Any
                    ) -> Dict[str, Any]:
        """mmdet's, with files under ``names``."""
        out_dir = '' if no_save_pred else str(pred_out_dir)
        names = names or self._names_of([sample.get('img_path') for sample in preds], {})
        results = list(preds) if return_datasamples else [
            self.pred2dict(sample, out_dir, name) for sample, name in zip(preds, names)]
        if return_datasamples and out_dir:
            print_log('data samples are not written to files: leave return_datasamples or no_save_pred=False '
                      'out', logger='current', level=30)
        if print_result:
            print(dict(predictions=results))
        return dict(predictions=results, visualization=visualization)

    def pred2dict(self, data_sample: DetDataSample, pred_out_dir: str = '', name: Optional[str] = None
                  ) -> Dict[str, Any]:
        """mmdet's, with a file under ``name``."""
        result = super().pred2dict(data_sample)
        if pred_out_dir:
            name = name or self._names_of([data_sample.get('img_path')], {})[0]
            mmengine.dump(result, osp.join(pred_out_dir, 'preds', f'{name}.json'))
        return result

    @property
    def classes(self) -> Sequence[str]:
        """Class names."""
        return self.model.dataset_meta['classes']

    def _call_on_images(self, inputs, settings, batch_size, skip_broken, *, return_vis=False, show=False,
                        wait_time=0, no_save_vis=False, draw_pred=True, pred_score_thr=0.3,
                        return_datasamples=False, print_result=False, no_save_pred=True, out_dir=''):
        """``__call__`` for images. All that a call keeps is in here: another one may run meanwhile."""
        each_input, names = self._list(inputs)
        results: Dict[str, list] = dict(predictions=[], visualization=[], inputs=[], broken=[])
        chunks: Iterable[Any] = self._chunks(each_input, batch_size)
        if self.show_progress:
            # rich has one bar at a time on a console.
            chunks = track(chunks, 'Inference', total=-(-len(each_input) // batch_size), console=Console())
        for chunk, broken in chunks:
            refuse_broken(broken, skip_broken)
            results['broken'].extend(dict(input=path, reason=reason) for path, reason in broken)
            if not chunk:
                continue
            originals, data = self.collate_fn(chunk)
            preds = self.forward(data, settings=settings)
            files = self._names_of(originals, names)
            painted = self.visualize(
                originals, preds, return_vis=return_vis, show=show, wait_time=wait_time, draw_pred=draw_pred,
                pred_score_thr=pred_score_thr, no_save_vis=no_save_vis, img_out_dir=out_dir, names=files)
            found = self.postprocess(
                preds, painted, return_datasamples=return_datasamples, print_result=print_result,
                no_save_pred=no_save_pred, pred_out_dir=out_dir, names=files)
            results['predictions'].extend(found['predictions'])
            results['visualization'].extend(found['visualization'] or ())
            results['inputs'].extend(None if isinstance(each, np.ndarray) else each for each in originals)
        return results

    def _call_on_video(self, path, settings, *, warm, skip_broken, return_vis=False, return_datasamples=False,
                       out_dir='', pred_score_thr=0.3, no_save_vis=False, **kwargs):
        """``__call__`` for a video; what else mmdet's takes is for images."""
        if kwargs:
            raise UsageError(f'{", ".join(kwargs)}: not for videos')
        out = Path(out_dir) / 'vis' / video_name(path.name) if out_dir and not no_save_vis else None
        results: Dict[str, list] = dict(
            predictions=[], visualization=[], refinements=[], inputs=[str(path)], broken=[])
        frames = detect_frames(
            self, path, warm=warm, settings=settings, on_broken=None if not skip_broken else
            lambda read: results['broken'].append(dict(input=read.name, reason=read.reason)))
        if out is not None:
            frames = write_video(self, frames, out, rate=Frames(path).rate, score=pred_score_thr)
        for frame in frames:
            results['predictions'].append(
                frame.sample if return_datasamples else self.pred2dict(frame.sample))
            results['refinements'].append(frame.refinements)
            if return_vis:
                results['visualization'].append(
                    mmcv.bgr2rgb(self.paint(frame.image, frame.sample, score=pred_score_thr)))
        return results

    def _chunks(self, inputs: Iterable, size: int) -> Iterator[Tuple[List[tuple], List[Tuple[str, str]]]]:
        """Inputs with their data, so many at a time, and what could not be read meanwhile."""
        return in_batches(inputs, size, self._read_input)

    def _read_input(self, each: Union[str, np.ndarray]) -> dict:
        """One input through the test pipeline."""
        if isinstance(each, np.ndarray):
            return self.pipeline(as_bgr(each))
        return read_with(self.pipeline, each, self._loading)

    def _inputs_to_list(self, inputs: Union[Input, Sequence[Input]]) -> List[Union[str, np.ndarray]]:
        return self._list(inputs)[0]

    def _list(self, inputs: Union[Input, Sequence[Input]]
              ) -> Tuple[List[Union[str, np.ndarray]], Dict[str, str]]:
        """Paths and arrays, and the names of the paths' pictures."""
        each_input: List[Any] = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        for each in each_input:
            if not isinstance(each, (str, Path, np.ndarray)):
                raise UsageError(f'inputs: paths and numpy arrays are taken, not a {type(each).__name__}')
            if not isinstance(each, np.ndarray) and is_video(each):
                raise UsageError(f'{each}: a video is given by itself, not in a list')
        found, names = [], []
        for each in each_input:
            sources = [each] if isinstance(each, np.ndarray) else collect([each], taken=names)
            names.extend(source.name for source in sources if not isinstance(source, np.ndarray))
            found.extend(sources)
        return ([each if isinstance(each, np.ndarray) else each.path for each in found],
                {each.path: each.name for each in found if not isinstance(each, np.ndarray)})

    def _names_of(self, inputs: Sequence[Union[str, np.ndarray, None]], names: Dict[str, str]) -> List[str]:
        """File names of some inputs; arrays are numbered, all that this inferencer ever gets."""
        with self._counting:
            first = self.num_predicted_imgs
            self.num_predicted_imgs = self.num_visualized_imgs = first + len(inputs)
        return [names.get(each, osp.basename(each)) if isinstance(each, str) else f'{number:08}.jpg'
                for number, each in enumerate(inputs, first)]

    def _init_model(self, cfg: Config, weights: Optional[str], device: str = 'cpu') -> BaseModel:
        self._weights = weights
        # Without the file, which mmengine would read in its own way.
        return super()._init_model(cfg, None, device)

    def _load_weights_to_model(self, model: BaseModel, checkpoint: Optional[dict], cfg: Config) -> None:
        """mmdet's, after the checks; without weights or class names in the file, those of the config."""
        weights, meta = model.state_dict(), {}
        if self._weights is not None:
            checkpoint = read_weights(self._weights, trust=self._trust)
            meta = checkpoint['meta']
            weights = fitted_weights(model, checkpoint['state_dict'], self._weights)
        known = dict(meta.get('dataset_meta') or {}, classes=classes_of(cfg, meta, model))
        super()._load_weights_to_model(model, dict(state_dict=weights, meta=dict(dataset_meta=known)), cfg)

    def _init_pipeline(self, cfg: Config) -> Compose:
        """mmdet's, without annotations, and with a pixel left of each side of any image."""
        steps = [dict(step) for step in get_test_pipeline_cfg(cfg)
                 if not str(step['type']).endswith('Annotations')]
        for step in steps:
            if step['type'] in ('Resize', 'mmdet.Resize'):
                step['type'] = f'mmdet.{NonEmptyResize.__name__}'
        try:
            pipeline = super()._init_pipeline(Config(dict(
                test_dataloader=dict(dataset=dict(pipeline=steps)))))
        except ValueError as error:
            raise UsageError(f'the test pipeline of the config cannot be used: {error}') from error
        self._loader = pipeline.transforms[0]
        file = self._loader.from_file
        self._loading = dict(color_type=file.color_type, imdecode_backend=file.imdecode_backend,
                             backend_args=getattr(file, 'backend_args', None),
                             value_range=getattr(file, 'value_range', None))
        return pipeline

    def _init_collate(self, cfg: Config) -> Callable:
        """mmdet's, which warns of a missing registry where the config names none."""
        return super()._init_collate(cfg) if cfg.test_dataloader.get('collate_fn') else pseudo_collate

    def _init_visualizer(self, cfg: Config) -> Visualizer:
        """mmdet's, which writes nothing by itself."""
        kept = {**(cfg.get('visualizer') or dict(type='DetLocalVisualizer', name='visualizer')),
                'vis_backends': None}
        visualizer: Any = quiet_at_edges(
            use_text_fonts(super()._init_visualizer(Config(dict(visualizer=kept)))))
        meta = visualizer.dataset_meta
        # mmdet would draw "random" colours again for each picture, from numpy's generator, shared by all.
        visualizer.dataset_meta = {**meta, 'palette': get_palette(meta['palette'], len(meta['classes']))}
        return visualizer
