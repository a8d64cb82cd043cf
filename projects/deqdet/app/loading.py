"""Load a trained equilibrium for the page."""

import argparse

from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from ..analysis import check_equilibrium
from ..inference import DEQDetInferencer, open_config


def load_model(args: argparse.Namespace) -> DEQDetInferencer:
    """Build the detector of a config and load a checkpoint.

    Args:
        args (argparse.Namespace): Has config, checkpoint, cfg_options, trust_checkpoint and device (None: a
            GPU if there is one).

    Returns:
        DEQDetInferencer: The ``roi_head`` of its model has a ``fixed_point_problem``.

    Raises:
        UsageError: If one of them cannot be used, if they do not match, or if the decoder is not an
            equilibrium.
    """
    cfg = open_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    head = (cfg.model.get('roi_head') or {}).get('type')
    check_equilibrium(MODELS.get(head) if head else None, args.config)
    return DEQDetInferencer(cfg, args.checkpoint, args.device, trust_checkpoint=args.trust_checkpoint,
                            show_progress=False)
