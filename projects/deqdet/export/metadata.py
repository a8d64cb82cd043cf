"""What has to be known to use an exported file, kept in the file itself."""

import json
from typing import Dict, Optional, Sequence, Union

from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.model import BaseModel

from ..version import __version__
from .recording import size_divisor

# Steps of a test pipeline that change neither the size nor the values of the image.
_NEUTRAL = ('LoadImageFromFile', 'LoadAnnotations', 'PackDetInputs')


def describe(model: BaseModel, cfg: Config, *, classes: Sequence[str],
             steps: Union[int, str]) -> Dict[str, str]:
    """The metadata of a file. Lists and dicts are JSON.

    Args:
        model (BaseModel): The detector.
        cfg (Config): The whole config, for its test pipeline.
        classes (Sequence[str]): Class names in the order of the labels.
        steps (int or str): Those of the file, see :func:`join_parts`.

    Returns:
        dict[str, str]: ``classes``; ``steps`` of the file (``'given'``: an input) and ``default_steps`` of
        the config (none of a stacked decoder); ``pad_size_divisor``; ``channels`` (``'RGB'``), ``mean`` and
        ``std``, which the graph applies itself; ``resize``, see :func:`resize_of`; ``model`` and
        ``deqdet_version``.
    """
    preprocessor, head = model.data_preprocessor, model.roi_head
    described = dict(
        classes=json.dumps(list(classes)),
        pad_size_divisor=str(size_divisor(model)),
        channels='RGB',
        resize=json.dumps(resize_of(cfg)),
        model=f'{type(model).__name__}, {type(head).__name__}',
        deqdet_version=__version__)
    for name in ('mean', 'std'):  # a preprocessor that does not normalise has neither
        value = getattr(preprocessor, name, None)
        described[name] = json.dumps(None if value is None else value.flatten().tolist())
    if hasattr(head, 'refinement_steps'):
        described.update(steps=str(steps), default_steps=str(default_steps(model)))
    return described


def default_steps(model: BaseModel) -> int:
    """Steps of prediction that the config has; 0 of a stacked decoder."""
    return model.roi_head.prediction.steps


def resize_of(cfg: Config) -> Optional[dict]:
    """How the test pipeline resizes an image.

    Args:
        cfg (Config): The whole config.

    Returns:
        dict: ``scale`` (width and height in pixels, or None) with ``keep_ratio``, else ``scale_factor`` (of
        width and height), and ``interpolation``. Without them nothing is resized. None where the pipeline
        does something else besides: images have to be prepared as it does.
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
        elif kind not in _NEUTRAL:
            return None
    return resize
