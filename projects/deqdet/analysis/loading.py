"""Loads a trained detector with its data and evaluator, for the analysis commands."""

import argparse
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.checks import check_files, check_num_classes
from ..data.data_configs import class_names, evaluators_of
from ..errors import UsageError
from ..files.disk import check_work_dir
from ..launching.command_line import add_common_arguments
from ..training.resume import check_start
from ..training.running import load_config, runner_of


def add_arguments(parser: argparse.ArgumentParser, *, weights: bool = True) -> None:
    """Add the common arguments of ``deqdet analysis``; without ``weights`` there may be no checkpoint."""
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', nargs=None if weights else '?', help='path or URL of the checkpoint'
                        + ('' if weights else ' (default: random weights)'))
    parser.add_argument(
        '--out', type=Path, help='folder for tables and pictures (default: analysis in the work dir)')
    parser.add_argument('--work-dir', help='folder for logs (default: ./work_dirs/CONFIG)')
    add_common_arguments(parser)


def check_equilibrium(head: Any, config: str) -> None:
    """Raise a UsageError if a decoder (``roi_head``, its class, or None) solves no fixed point."""
    if not hasattr(head, 'fixed_point_problem'):
        name = '' if head is None else f', {(head if isinstance(head, type) else type(head)).__name__},'
        raise UsageError(f'config {config}: its decoder{name} solves no fixed point: use a config with a '
                         'DEQDetRoIHead or a DEQ_SparseRoIHead', 'unsupported-decoder')


def build_untrained(cfg: Config) -> Any:
    """The detector of a config with random weights; no download, and no log of the weights."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    MMLogger.get_instance('mmengine', log_level='WARNING')
    if cfg.model.get('backbone'):
        cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


@dataclass(frozen=True, eq=False)
class FixedPointProblem:
    """The fixed-point problem of a batch.

    Attributes:
        start (DecoderState or BoxState): y_0.
        step (Callable): One refinement.
        samples (list[:obj:`DetDataSample`]): The images, with their meta information.
        features (Sequence[Tensor]): Feature levels, has shape (B, C_f, H_l, W_l).
        head (nn.Module): The decoder.
    """

    start: Any
    step: Callable[[Any], Any]
    samples: SampleList
    features: Sequence[Tensor]
    head: Any

    def detections(self, state: Any, refinements: int) -> InstanceList:
        """Detections of a state, in pixels of the original images, with masks if the decoder has them.

        Args:
            state (DecoderState or BoxState): A state with logits.
            refinements (int): Number of refinements that led to it; 0 is y_0.
        """
        return self.head.select_all(
            self.features, state, [sample.metainfo for sample in self.samples], True, self.head.prediction,
            layer=-1 if refinements else 0)


def fixed_point_problem(model: BaseModel, data: dict) -> FixedPointProblem:
    """The fixed-point problem of a dataloader's batch, for a ``roi_head`` that has one."""
    data = model.data_preprocessor(data, False)
    samples = data['data_samples']
    features = model.extract_feat(data['inputs'])
    proposals = model.rpn_head.predict(features, samples)
    start, step = model.roi_head.fixed_point_problem(features, proposals, samples)
    return FixedPointProblem(start, step, samples, features, model.roi_head)


@dataclass(frozen=True)
class OpenDetector:
    """Result of :func:`open_detector`.

    Attributes:
        model (BaseModel): The detector in eval mode; its ``roi_head`` has a ``fixed_point_problem``.
        cfg (Config): The whole config.
        classes (Sequence[str]): Class names of the test data.
        out (Path): Folder for results.
        dataloader (DataLoader, optional): Test data of the config; None if opened without data.
        evaluator (Evaluator, optional): Evaluator of the test data.
    """

    model: BaseModel
    cfg: Config
    classes: Sequence[str]
    out: Path
    dataloader: Optional[DataLoader] = None
    evaluator: Optional[Evaluator] = None


@contextmanager
def open_detector(args: argparse.Namespace, *, data: bool = True) -> Iterator[OpenDetector]:
    """Build detector and test data of a config and load a checkpoint, with the checks of ``tools/test.py``.

    Args:
        args (argparse.Namespace): The arguments of :func:`add_arguments`.
        data (bool): Open the test data. Otherwise only their class names are read from the config, and the
            data need not be on this machine.

    Raises:
        UsageError: If one of them is missing or wrong, or if the decoder solves no fixed point.
    """
    if args.launcher != 'none':
        raise UsageError('this command runs in one process: remove --launcher', 'bad-argument')
    cfg = load_config(args)
    if args.out:
        check_work_dir(args.out, option='--out')
    if data and any(str(entry.get('type')).split('.')[-1] == 'CocoSubmissionMetric'
                    for entry in evaluators_of(cfg, 'test')):
        raise UsageError(f'config {args.config}: only the server has the boxes of its test data, so nothing '
                         'can be compared: use the config whose test data are val2017', 'bad-config')
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.log_level = 'WARNING'  # the user wants to see only the results
    check_start(cfg)
    if data:
        check_files(cfg, ('test', ))
    with runner_of(cfg) as runner:
        check_equilibrium(getattr(runner.model, 'roi_head', None), args.config)
        loop: Any = runner.test_loop if data else None
        classes = class_names(cfg, 'test')
        if not classes:
            raise UsageError(f'config {args.config}: its test data have no class names: add '
                             'metainfo=dict(classes=(...)) to their dataset', 'bad-config')
        runner.call_hook('before_run')
        runner.load_or_resume()
        # As at the start of a test: hooks check the data and load averaged weights (EMA).
        if data:
            runner.call_hook('before_test')
        else:
            check_num_classes(runner.model, classes, where='test dataset')
        runner.call_hook('before_test_epoch')
        yield OpenDetector(
            model=runner.model.eval(), cfg=cfg, classes=classes,
            out=args.out or Path(runner.work_dir) / 'analysis',
            dataloader=loop and loop.dataloader, evaluator=loop and loop.evaluator)
