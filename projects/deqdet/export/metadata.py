"""Metadata in an exported file: the information that its user needs."""

import json
from typing import Dict, Optional, Sequence, Union

from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.model import BaseModel

from ..version import __version__
from .masks import kind_of
from .recording import size_divisor

# Steps of a test pipeline that change neither size nor values of the image.
_NEUTRAL = ('LoadImageFromFile', 'LoadAnnotations', 'PackDetInputs')
# Arguments of LoadImageFromFile that change the values of an image, with those that do not.
_PLAIN_LOADING = dict(color_type='color', imdecode_backend='cv2', value_range=None)


def describe(model: BaseModel, cfg: Config, *, classes: Sequence[str],
             steps: Union[int, str], masks: bool = True) -> Dict[str, str]:
    """The metadata of a file. Lists and dicts are JSON.

    Args:
        model (BaseModel): The detector.
        cfg (Config): The whole config, for its test pipeline.
        classes (Sequence[str]): Class names in the order of the labels.
        steps (int or str): Steps of the file, see :func:`join_parts`.
        masks (bool): The file has masks, if the detector has mask heads.

    Returns:
        dict[str, str]: ``classes``; ``steps`` of the file (``'given'`` if they are an input) and
        ``default_steps`` of the config (both missing for a stacked decoder); ``pad_size_divisor``;
        ``channels`` (``'RGB'``); ``mean`` and ``std``, which the graph applies itself; ``resize``, see
        :func:`resize_of`; ``model`` and ``deqdet_version``; with masks ``masks`` (``'boxes'`` if the maps are
        inside the boxes, ``'image'`` if they cover the input) and ``mask_threshold`` (probability).
    """
    preprocessor, head = model.data_preprocessor, model.roi_head
    described = dict(
        classes=json.dumps(list(classes)),
        pad_size_divisor=str(size_divisor(model)),
        channels='RGB',
        resize=json.dumps(resize_of(cfg)),
        model=f'{type(model).__name__}, {type(head).__name__}',
        deqdet_version=__version__)
    for name in ('mean', 'std'):  # a preprocessor without normalisation has neither
        value = getattr(preprocessor, name, None)
        described[name] = json.dumps(None if value is None else value.flatten().tolist())
    if hasattr(head, 'refinement_steps'):
        described.update(steps=str(steps), default_steps=str(head.prediction.steps))
    if masks and head.with_mask:
        described.update(masks=kind_of(head.mask_head[-1]),
                         mask_threshold=str(head.prediction.mask_thr_binary))
    return described


def resize_of(cfg: Config) -> Optional[dict]:
    """How the test pipeline of a config resizes an image.

    Returns:
        dict: ``scale`` (width and height in pixels, or None) with ``keep_ratio``, else ``scale_factor`` (of
        width and height), and ``interpolation``. It is empty if the pipeline does not resize. It is None if
        the pipeline has other steps too, or loads images in a special way. Then the user must prepare images
        in the same way.
    """
    resize: dict = {}
    for step in get_test_pipeline_cfg(cfg):
        kind = str(step['type']).rpartition('.')[2]
        if kind == 'Resize' and not resize and step.get('backend', 'cv2') == 'cv2':
            scale, factor = step.get('scale'), step.get('scale_factor')
            if isinstance(scale, int):
                scale = (scale, scale)
            if isinstance(factor, (int, float)):
                factor = (factor, factor)
            resize = dict(scale=scale, keep_ratio=step.get('keep_ratio', False), scale_factor=factor,
                          interpolation=step.get('interpolation', 'bilinear'))
        elif kind not in _NEUTRAL or kind == 'LoadImageFromFile' and any(
                step.get(key) not in (None, plain) for key, plain in _PLAIN_LOADING.items()):
            return None
    return resize
