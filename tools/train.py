"""Train a detector, with the options of mmdetection's tools/train.py."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'projects'))
import deqdet_path

deqdet_path.installed_first(__file__)  # before all other imports

import argparse  # noqa: E402

import deqdet.commands  # noqa: E402, F401  isort: skip
# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet import UsageError  # noqa: E402  isort: skip
from deqdet.checkpoints.check import check_pretrained  # noqa: E402  isort: skip
from deqdet.commands.common import add_common_arguments, load_config, run, runner_of  # noqa: E402  isort: skip
from deqdet.data.checks import check_files  # noqa: E402  isort: skip
from deqdet.files.disk import check_work_dir  # noqa: E402  isort: skip
from deqdet.launching.workers import leave  # noqa: E402  isort: skip
from deqdet.training.amp import use_amp  # noqa: E402  isort: skip
from deqdet.training.resume import check_start  # noqa: E402  isort: skip
from deqdet.training.resume_hook import take_new_schedule  # noqa: E402  isort: skip
from mmdet.utils import setup_cache_size_limit_of_dynamo  # noqa: E402


def parse_args():
    parser = argparse.ArgumentParser(description='Train a detector')
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size, see auto_scale_lr of the config')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint or, without a value, from the last one in the work dir')
    parser.add_argument(
        '--new-schedule',
        action='store_true',
        help='with --resume: take learning rate, schedule and settings of the optimiser from the config '
        'instead of from the checkpoint, for example to train for more epochs')
    add_common_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args)
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        scaling = cfg.get('auto_scale_lr') or {}
        if 'enable' not in scaling or 'base_batch_size' not in scaling:
            raise UsageError('--auto-scale-lr: the config lacks auto_scale_lr=dict(enable=..., '
                             'base_batch_size=...), the batch size that its learning rate is for')
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.new_schedule:
        if not cfg.get('resume'):
            raise UsageError('--new-schedule is for a training that goes on: add --resume')
        take_new_schedule(cfg)
    check_work_dir(cfg.work_dir)
    check_start(cfg)
    check_pretrained(cfg.get('model'))
    check_files(cfg, ('train', 'val'))
    with runner_of(cfg, verbose=args.verbose) as runner:
        runner.train()


if __name__ == '__main__':
    run(main)
    leave()
