"""A trained equilibrium from its config and checkpoint, without data and without a run."""

import argparse
from typing import NamedTuple, Sequence

import torch
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


class LoadedModel(NamedTuple):
    """What :func:`load_model` loads.

    Attributes:
        model (BaseModel): The detector in eval mode; its ``roi_head`` has a ``fixed_point_problem``.
        cfg (Config): The whole config.
        classes (Sequence[str]): Class names.
    """

    model: BaseModel
    cfg: Config
    classes: Sequence[str]


def load_model(args: argparse.Namespace) -> LoadedModel:
    """Build the detector of a config and load a checkpoint.

    Args:
        args (argparse.Namespace): Has config, checkpoint, cfg_options, trust_checkpoint and device (None: a
            GPU where there is one).

    Raises:
        UsageError: If one of them cannot be had, if they do not belong together, or if the decoder is no
            equilibrium.
    """
    trust_if_told(args)
    device = _device(args.device)
    if '://' in args.checkpoint:
        raise UsageError(f'{args.checkpoint}: this tool reads local files; download it first')
    cfg = read_config(args)
    if 'model' not in cfg or 'test_dataloader' not in cfg:
        raise UsageError(f'config {args.config} needs a model, and a test_dataloader, which says how images '
                         'are prepared')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    head = (cfg.model.get('roi_head') or {}).get('type')
    if not hasattr(MODELS.get(head) if head else None, 'fixed_point_problem'):
        raise UsageError(f'config {args.config}: its decoder, {head or cfg.model.type}, solves no fixed '
                         'point, so there is nothing to watch; take a config with a DEQDetRoIHead or a '
                         'DEQ_SparseRoIHead')
    checkpoint = published(check_checkpoint_file(args.checkpoint), args.checkpoint)
    model = MODELS.build(cfg.model)
    weights = checkpoint['state_dict']
    fit = compare(weights, model.state_dict())
    if fit.fitting < fit.total or fit.extra and fit.of_another_architecture():
        raise UsageError(f'checkpoint {args.checkpoint} does not fit the model: {fit.fitting} of its '
                         f'{fit.total} tensors are there; {fit.differences()}: {fit.hint()}')
    model.load_state_dict(weights, strict=False)
    classes = DATASETS.build({**cfg.test_dataloader.dataset, 'lazy_init': True}).metainfo['classes']
    check_num_classes(model, classes, where='test dataset')
    return LoadedModel(model.to(device).eval(), cfg, classes)


def _device(name) -> torch.device:
    name = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f'--device {name} cannot be used ({str(error).splitlines()[0]}): leave it out, or '
                         'give cpu') from error
