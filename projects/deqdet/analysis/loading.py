"""A trained detector with its data and its evaluator, for the tools that look at it."""

import argparse
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Tuple

from mmdet.structures import SampleList
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from torch.utils.data import DataLoader

from .. import engine
from ..errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that the tools of ``tools/analysis`` share."""
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        '--out', type=Path, help='folder for tables and pictures (default: analysis in the work dir)')
    parser.add_argument('--work-dir', help='folder for logs (default: ./work_dirs/CONFIG)')
    engine.add_common_arguments(parser)


@dataclass(frozen=True)
class OpenDetector:
    """What :func:`open_detector` opens.

    Attributes:
        model (BaseModel): The detector in eval mode, with a head that has a ``fixed_point_problem``.
        dataloader (DataLoader): Test data, as the config has them.
        evaluator (Evaluator): Their evaluator.
        out (Path): Folder for results.
    """

    model: BaseModel
    dataloader: DataLoader
    evaluator: Evaluator
    out: Path

    def problem(self, data: dict) -> Tuple[object, object, SampleList]:
        """The fixed-point problem of a batch.

        Args:
            data (dict): A batch of the dataloader.

        Returns:
            tuple: y_0, one refinement, and the samples with their meta information.
        """
        data = self.model.data_preprocessor(data, False)
        samples = data['data_samples']
        features = self.model.extract_feat(data['inputs'])
        proposals = self.model.rpn_head.predict(features, samples)
        return *self.model.roi_head.fixed_point_problem(features, proposals, samples), samples


@contextmanager
def open_detector(args: argparse.Namespace) -> Iterator[OpenDetector]:
    """Build detector and test data of a config and load a checkpoint, with the checks of ``tools/test.py``.

    Args:
        args (argparse.Namespace): What :func:`add_arguments` adds.

    Raises:
        UsageError: If one of them cannot be had, or if the decoder is no equilibrium.
    """
    if args.launcher != 'none':
        raise UsageError('this tool runs in one process: leave --launcher out')
    cfg = engine.load_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.log_level = 'WARNING'  # the results are what is to be read
    engine.check_start(cfg)
    engine.check_files(cfg, ('test', ))
    with engine.runner_of(cfg) as runner:
        head = getattr(runner.model, 'roi_head', None)
        if not hasattr(head, 'fixed_point_problem'):
            raise UsageError(f'config {args.config}: its decoder, {type(head).__name__}, solves no fixed '
                             'point; take a config with a DEQDetRoIHead or a DEQ_SparseRoIHead')
        loop = runner.test_loop
        runner.call_hook('before_run')
        runner.load_or_resume()
        # As a test begins: the data are checked, averaged weights (EMA) take their place.
        runner.call_hook('before_test')
        runner.call_hook('before_test_epoch')
        yield OpenDetector(model=runner.model.eval(), dataloader=loop.dataloader, evaluator=loop.evaluator,
                           out=args.out or Path(runner.work_dir) / 'analysis')
