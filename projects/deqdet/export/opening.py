"""Loads a trained detector from config and checkpoint, without data and without a runner."""

import argparse
from typing import List, Tuple

from ..inference import DEQDetInferencer
from .parts import split_detector


def load_detector(args: argparse.Namespace, *, masks: bool = True) -> Tuple[DEQDetInferencer, List[str]]:
    """Build the detector of a config and load a checkpoint, as the inferencer does.

    Args:
        args (argparse.Namespace): Has config, checkpoint, cfg_options and trust_checkpoint.
        masks (bool): Masks are exported too, if the detector has mask heads.

    Returns:
        tuple: The inferencer (model, config and classes) on the CPU, and one line for each setting of the
        config that the file cannot have.

    Raises:
        UsageError: If config or checkpoint cannot be loaded or do not match, or if the detector cannot be
            exported.
    """
    opened = DEQDetInferencer(args.config, args.checkpoint, 'cpu', cfg_options=args.cfg_options,
                              trust_checkpoint=args.trust_checkpoint, show_progress=False)
    split_detector(opened.model, masks=masks)  # fails early if the detector cannot be exported
    return opened, _settle(opened.model)


def _settle(model) -> List[str]:
    """Turn off settings that a file cannot have; return one line for each."""
    notes = []
    if getattr(model, 'inference_dtype', None):
        notes.append(f'model.inference_dtype={model.inference_dtype!r} is ignored: the file computes in '
                     'float32')
        model.inference_dtype = None
    settings = model.roi_head.prediction
    solver = settings.solver.kind
    asked = [f'solver {solver}'] if solver != 'iterate' else []
    asked += ['tolerance'] if settings.tolerance else []
    selecting = ['score_thr'] if settings.score_thr else []
    selecting += ['nms'] if settings.nms else []
    if settings.mask_scores:
        notes.append('test_cfg.rcnn.mask_scores is ignored: the file outputs one score of each detection')
    if settings.solve_dtype:
        notes.append(f'test_cfg.rcnn.solve_dtype={settings.solve_dtype!r} is ignored: the file computes in '
                     'float32')
    if selecting:
        notes.append(f'test_cfg.rcnn: {" and ".join(selecting)} ignored: the file outputs the best '
                     f'{settings.max_per_img} detections of each image; select among them')
    if asked:
        notes.append(f'test_cfg.rcnn: {" and ".join(asked)} ignored: the file uses plain iteration, with all '
                     'steps for every image')
    return notes
