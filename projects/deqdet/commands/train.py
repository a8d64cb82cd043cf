"""Train a detector, with the options of mmdetection's tools/train.py."""

from mmdet.utils import setup_cache_size_limit_of_dynamo

from ..checkpoints.check import check_pretrained
from ..data.checks import check_files
from ..errors import UsageError
from ..files.disk import check_work_dir
from ..launching.command_line import Parser, add_common_arguments, run
from ..launching.workers import leave
from ..training.amp import use_amp
from ..training.resume import check_start
from ..training.resume_hook import take_new_schedule
from ..training.running import load_config, runner_of


def _parse_args():
    parser = Parser(description=__doc__)
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
        help='continue from this checkpoint or, without a value, from the last one in the work dir')
    parser.add_argument(
        '--new-schedule',
        action='store_true',
        help='with --resume: take learning rate, schedule and settings of the optimiser from the config '
        'instead of from the checkpoint, for example to train for more epochs')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = _parse_args()
    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args)
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        scaling = cfg.get('auto_scale_lr') or {}
        if 'enable' not in scaling or 'base_batch_size' not in scaling:
            raise UsageError('--auto-scale-lr: add auto_scale_lr=dict(enable=..., base_batch_size=...) to '
                             'the config, with the batch size of its learning rate', 'bad-config')
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.new_schedule:
        if not cfg.get('resume'):
            raise UsageError('--new-schedule is for a training that continues: add --resume',
                             'missing-argument')
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
