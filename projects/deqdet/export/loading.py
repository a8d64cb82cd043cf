"""A trained detector from its config and checkpoint, without the data and without a run."""

import argparse
from typing import List, NamedTuple, Sequence

from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from ..engine.checkpoint_check import check_checkpoint_file
from ..engine.checkpoint_fit import compare
from ..engine.checks import check_num_classes
from ..engine.cli import read_config, trust_if_told
from ..engine.publishing import published
from ..errors import UsageError
from .parts import split_detector


class LoadedDetector(NamedTuple):
    """What :func:`load_detector` loads.

    Attributes:
        model (BaseModel): The detector in eval mode, on the CPU.
        cfg (Config): The whole config.
        classes (Sequence[str]): Class names of the test data.
        notes (list[str]): What of the config the file will not have, one line each.
    """

    model: BaseModel
    cfg: Config
    classes: Sequence[str]
    notes: List[str]


def load_detector(args: argparse.Namespace) -> LoadedDetector:
    """Build the detector of a config and load a checkpoint, with the checks of ``tools/test.py``.

    Args:
        args (argparse.Namespace): Has config, checkpoint, cfg_options and trust_checkpoint.

    Raises:
        UsageError: If one of them cannot be had, if they do not belong together, or if such a detector cannot
            be exported.
    """
    trust_if_told(args)
    if '://' in args.checkpoint:
        raise UsageError(f'{args.checkpoint}: this tool reads local files; download it first')
    cfg = read_config(args)
    checkpoint = check_checkpoint_file(args.checkpoint)
    assert checkpoint is not None  # as of a URL
    if 'model' not in cfg:
        raise UsageError(f'config {args.config} has no model')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(cfg.model)
    weights = published(checkpoint, args.checkpoint)['state_dict']
    fit = compare(weights, model.state_dict())
    if fit.fitting < fit.total or fit.extra and fit.of_another_architecture():
        raise UsageError(f'checkpoint {args.checkpoint} does not fit the model: {fit.fitting} of its '
                         f'{fit.total} tensors are there; {fit.differences()}: {fit.hint()}')
    model.load_state_dict(weights, strict=False)
    split_detector(model)  # what cannot be exported is said before anything takes time
    if 'test_dataloader' not in cfg:
        raise UsageError(f'config {args.config} has no test_dataloader, whose dataset names the classes')
    classes = DATASETS.build({**cfg.test_dataloader.dataset, 'lazy_init': True}).metainfo['classes']
    check_num_classes(model, classes, where='test dataset')
    return LoadedDetector(model.eval(), cfg, classes, _settle(model))


def _settle(model) -> List[str]:
    """Turn off what a file cannot have; returns what there was."""
    notes = []
    if getattr(model, 'inference_dtype', None):
        notes.append(f'model.inference_dtype={model.inference_dtype!r} of the config is left out: the file '
                     f'computes in float32')
        model.inference_dtype = None
    rcnn = getattr(getattr(model, 'roi_head', None), 'test_cfg', None) or {}
    solver = (rcnn.get('solver') or {}).get('type', 'iterate')
    asked = [f'solver {solver}'] if solver != 'iterate' else []
    asked += ['tolerance'] if rcnn.get('tolerance') else []
    if rcnn.get('solve_dtype'):
        notes.append(f'test_cfg.rcnn.solve_dtype={rcnn["solve_dtype"]!r} is left out: the file computes in '
                     f'float32')
    if asked:
        notes.append(f'test_cfg.rcnn has a {" and a ".join(asked)}: the file uses plain iteration, with all '
                     f'steps for every image')
    return notes
