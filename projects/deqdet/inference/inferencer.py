"""mmdet's inferencer for the detectors of this package."""

import inspect
import os.path as osp
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import mmcv
import mmengine
import numpy as np
from mmdet.structures import DetDataSample, SampleList
from mmengine.structures import InstanceData
from rich.console import Console
from rich.progress import track

from ..errors import UsageError
from ..settings import Positive, check
from .formats import is_video
from .frames import Frames
from .inputs import find
from .masks import encode_masks
from .painting import picture_name, video_file, video_name
from .reading import Frame
from .settings import Tolerances, settings_of
from .streams import StreamDetector
from .windows import tiling_of

Image = Union[str, Path, np.ndarray]


class DEQDetInferencer(StreamDetector):
    """Detects objects in images and videos: ``DEQDetInferencer(config, weights)('a.jpg', out_dir='found')``.

    It extends mmdet's ``DetInferencer`` and keeps its arguments, results and hooks. It adds: steps, tolerance
    and solver of the equilibrium for each call, checks of the checkpoint, folders with their subfolders,
    globs, videos, and images of any kind. Boxes are in pixels of the displayed image: EXIF orientation is
    applied, the alpha channel is dropped, 16 bits become 8.

    Threads may share one inferencer. Their calls do not affect each other.

    Args:
        config (str, Path, Config or dict): Path of a config, or the name of one that comes with the package.
        weights (str or Path, optional): Checkpoint (``.pth``, ``.safetensors``) or its URL.
        device (str, optional): By default a GPU if there is one.
        cfg_options (dict, optional): Settings that override the config, by dotted key.
        untrained (bool): Build the model without weights.
        trust_checkpoint (bool): Load the checkpoint in full. This may run any code that is in it.
        palette (str): Colours of the boxes, see ``DetInferencer``.
        show_progress (bool): Show a progress bar.

    Raises:
        UsageError: If config, weights or device are unusable or do not match.
    """

    num_predicted_imgs: int

    def __call__(self,
                 inputs: Union[Image, Sequence[Image]],
                 steps: Optional[int] = None,
                 tol: Optional[Tolerances] = None,
                 solver: Union[str, dict, None] = None,
                 batch_size: int = 1,
                 *,
                 skip_broken: bool = False,
                 warm: bool = True,
                 tile: Optional[int] = None,
                 overlap: Optional[float] = None,
                 **kwargs: Any) -> Dict[str, Any]:
        """Detect objects.

        Args:
            inputs: An image: a path, a URL, or an array (BGR as in OpenCV, uint8, has shape (H, W, 3); (H, W)
                is grey); a folder, searched with all its subfolders; a glob; a single video; or a list of
                images, folders and globs.
            steps (int, optional): Maximum number of refinements before the last one, for this call.
            tol (float or dict, optional): Tolerance for this call. An image is solved when a step moves it
                less than these limits: ``content``, relative, and ``position``, in pixels of the network's
                input. A number t means ``dict(content=t, position=2.5 * t)``.
            solver (str or dict, optional): ``'iterate'``, ``'anderson'``, ..., for this call.
            batch_size (int): Maximum number of images in a batch. Images of different sizes are padded to one
                size, which changes scores a little. If most of a batch would be padding, it is split.
            skip_broken (bool): Skip files that cannot be read, instead of stopping at the first.
            warm (bool): In a video, start each frame at the equilibrium of the last. This saves time with
                ``tol``.
            tile (int, optional): Detect in overlapping windows with this side, in pixels of the image, and
                merge their detections; for images with many or small objects. ``batch_size`` then counts
                windows.
            overlap (float, optional): Least share of a window that neighbours have in common, 0.25 by
                default. Objects smaller than this are whole in some window.
            **kwargs: Arguments of mmdet's ``DetInferencer``: ``out_dir`` (pictures of the detections go to
                ``out_dir/vis``), ``pred_score_thr`` (draw those above this score, 0.3), ``return_vis``,
                ``return_datasamples``, ``no_save_vis``, ``no_save_pred``, ``show``, ...

        Returns:
            dict: ``predictions``, one per image: dict of ``labels``, ``scores``, ``bboxes`` (x1, y1, x2, y2)
            and, with a mask head, ``masks`` (COCO's RLE, also in samples) and, if set, ``mask_scores``; or
            :obj:`DetDataSample`; ``visualization``, RGB, uint8, if requested; ``inputs``, the path of each
            image (None for an array); ``broken``, dicts of ``input`` and ``reason``; for a video also
            ``refinements`` of each frame, None without an equilibrium.

        Raises:
            UsageError: If an input is missing or unusable, or a setting does not fit this decoder.
        """
        settings = settings_of(self.model, steps=steps, tol=tol, solver=solver)  # before any file is read
        check(batch_size, Positive, name='batch_size', argument=True)
        video = isinstance(inputs, (str, Path)) and is_video(inputs)
        tiling = tiling_of(tile, overlap)
        if video and tiling:
            raise UsageError(f'tile={tile} is for images, and {inputs} is a video: remove tile',
                             'bad-argument')
        call = partial(self._call_on_video, warm=warm) if video else partial(
            self._call_on_images, batch_size=batch_size, tiling=tiling)
        known = inspect.signature(call).parameters
        unknown = sorted(set(kwargs) - set(known))
        if unknown:
            raise UsageError(f'{", ".join(unknown)}: not known for {"a video" if video else "images"}: '
                             f'use steps, tol, solver, {", ".join(known)}', 'bad-argument')
        return call(inputs, settings=settings, skip_broken=skip_broken, **kwargs)

    def preprocess(self, inputs: Sequence[Any], batch_size: int = 1, skip_broken: bool = False
                   ) -> Iterator[Tuple[list, dict]]:
        """Inputs with their collated batches, read lazily."""
        for batch in self._prepared(inputs, batch_size):
            _refuse_broken(skip_broken, batch)
            chunk = [(frame.input, frame.data) for frame in batch if frame.data is not None]
            if chunk:
                yield self.collate_fn(chunk)

    def visualize(self, inputs: Sequence[Union[str, np.ndarray]], preds: SampleList, return_vis: bool = False,
                  show: bool = False, wait_time: int = 0, draw_pred: bool = True,
                  pred_score_thr: float = 0.3, no_save_vis: bool = False, img_out_dir: str = '',
                  **kwargs: Any) -> Optional[List[np.ndarray]]:
        """As mmdet's, but with a file name for each image, and BGR arrays."""
        out_dir = '' if no_save_vis else str(img_out_dir)
        if not (show or return_vis or out_dir):
            return None
        painted = []
        for each, sample in zip(inputs, preds):
            picture = self.paint(each, sample, score=pred_score_thr, show=show, wait_time=wait_time,
                                 draw_pred=draw_pred)
            if out_dir:
                mmcv.imwrite(picture, osp.join(out_dir, 'vis', picture_name(self._name_of(sample))))
            if return_vis:
                painted.append(mmcv.bgr2rgb(picture))
        return painted if return_vis else None

    def pred2dict(self, data_sample: DetDataSample, pred_out_dir: str = '') -> Dict[str, Any]:
        """As mmdet's, but with a file name for each image, and with ``mask_scores``."""
        found = encode_masks(data_sample.pred_instances.new())
        boxes = InstanceData(bboxes=found.bboxes, labels=found.labels, scores=found.scores)
        result = super().pred2dict(DetDataSample(pred_instances=boxes))
        if 'masks' in found:
            result['masks'] = found.masks
        if 'mask_scores' in found:
            result['mask_scores'] = found.mask_scores.tolist()
        if pred_out_dir:
            mmengine.dump(result, osp.join(pred_out_dir, 'preds', f'{self._name_of(data_sample)}.json'))
        return result

    def _call_on_images(self, inputs, *, settings, batch_size, tiling, skip_broken, return_vis=False,
                        show=False, wait_time=0, no_save_vis=False, draw_pred=True, pred_score_thr=0.3,
                        return_datasamples=False, print_result=False, no_save_pred=True, out_dir=''):
        """``__call__`` for images. All state of a call is local, since calls may run in parallel."""
        each_input, names = self._list(inputs)
        results: Dict[str, list] = dict(predictions=[], visualization=[], inputs=[], broken=[])
        batches: Iterable[List[Frame]] = self._detected(each_input, batch_size, settings, tiling)
        if self.show_progress:
            # rich allows one live bar per console.
            batches = track(batches, 'Inference', total=-(-len(each_input) // (1 if tiling else batch_size)),
                            console=Console())
        for batch in batches:
            results['broken'].extend(_refuse_broken(skip_broken, batch))
            good = [found for found in batch if found.sample is not None]
            if not good:
                continue
            preds: SampleList = [found.sample for found in good]
            for found, sample in zip(good, preds):
                if isinstance(found.input, str):
                    sample.set_metainfo(dict(file_name=names[found.input]))
            painted = self.visualize(
                [found.image for found in good], preds, return_vis=return_vis, show=show, wait_time=wait_time,
                draw_pred=draw_pred, pred_score_thr=pred_score_thr, no_save_vis=no_save_vis,
                img_out_dir=out_dir)
            written = self.postprocess(
                preds, painted, return_datasamples=return_datasamples, print_result=print_result,
                no_save_pred=no_save_pred, pred_out_dir=str(out_dir))
            results['predictions'].extend(written['predictions'])
            results['visualization'].extend(written['visualization'] or ())
            results['inputs'].extend(None if isinstance(each.input, np.ndarray) else each.input
                                     for each in good)
        return results

    def _call_on_video(self, inputs, *, settings, warm, skip_broken, return_vis=False,
                       return_datasamples=False, out_dir='', pred_score_thr=0.3, no_save_vis=False):
        """``__call__`` for a video; mmdet's other arguments are for images."""
        path = Path(inputs).expanduser()
        results: Dict[str, list] = dict(
            predictions=[], visualization=[], refinements=[], inputs=[str(path)], broken=[])
        frames = Frames(path)
        with ExitStack() as opened:
            write = opened.enter_context(video_file(
                Path(out_dir) / 'vis' / video_name(path.name), frames.rate)) if out_dir and not no_save_vis \
                else None
            for found in self.frames(frames, warm=warm, settings=settings):
                results['broken'].extend(_refuse_broken(skip_broken, [found]))
                if found.sample is None:
                    continue
                results['predictions'].append(
                    found.sample if return_datasamples else self.pred2dict(found.sample))
                results['refinements'].append(found.refinements)
                if not (write or return_vis):
                    continue
                picture = self.paint(found.image, found.sample, score=pred_score_thr)
                if return_vis:
                    results['visualization'].append(mmcv.bgr2rgb(picture))
                if write:
                    write(picture, found.refinements)
        return results

    def _list(self, inputs: Union[Image, Sequence[Image]]
              ) -> Tuple[List[Union[str, np.ndarray]], Dict[str, str]]:
        """Paths and arrays of the inputs, and the output name of each path."""
        each_input: List[Any] = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        for each in each_input:
            if not isinstance(each, (str, Path, np.ndarray)):
                raise UsageError(f'inputs must be paths or numpy arrays, not {type(each).__name__}',
                                 'bad-argument')
            if not isinstance(each, np.ndarray) and is_video(each):
                raise UsageError(f'{each}: a video must be the only input, not in a list', 'bad-argument')
        found: List[Union[str, np.ndarray]] = []
        names: Dict[str, str] = {}
        for each in each_input:
            if isinstance(each, np.ndarray):
                found.append(each)
                continue
            for image in find([each], taken=names.values()).inputs:
                found.append(image.path)
                names[image.path] = image.name
        return found, names

    def _name_of(self, sample: DetDataSample) -> str:
        """File name of an image's results. Arrays are numbered over the lifetime of this inferencer."""
        if 'file_name' not in sample:
            with self._counting:
                number = self.num_predicted_imgs
                self.num_predicted_imgs = self.num_visualized_imgs = number + 1
            path = sample.get('img_path')
            sample.set_metainfo(dict(file_name=osp.basename(path) if path else f'{number:08}.jpg'))
        return sample.file_name


def _refuse_broken(skip: bool, found: Iterable[Any]) -> List[Dict[str, Any]]:
    """Return the broken frames or results; without ``skip`` the first one raises an error."""
    broken = [dict(input=each.input, reason=each.reason) for each in found if each.reason]
    if broken and not skip:
        raise UsageError(f'image {broken[0]["input"]} cannot be read ({broken[0]["reason"]}): replace it, or '
                         'skip such files with skip_broken=True', 'bad-image')
    return broken
