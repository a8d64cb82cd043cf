"""Check the data of a config before a long training: annotations, images, splits, augmented samples.

Every finding is one line: what is wrong, how often, the first examples, and how to fix it. An error makes
training or evaluation impossible, or its result meaningless. Exit status: 0 without errors, 1 with errors, 2
if the check cannot run. In the work dir of the config, the folder `check` gets the findings as check.json and
check.md, histograms, and training samples as the model gets them.
"""

import argparse
import os
import os.path as osp
import sys
from pathlib import Path

from mmengine.registry import init_default_scope

from ...data.doctor import examine, lines, write_report
from ...errors import UsageError
from ...launching.command_line import add_config_options, run
from ...launching.configs import read_config

SPLITS = ('train', 'val', 'test')
# More threads would only wait for the disk.
MOST_WORKERS = 8


def _parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of the config file')
    add_config_options(parser)
    parser.add_argument('--splits', nargs='+', choices=SPLITS, default=list(SPLITS),
                        help='splits to check (default: all that the config has)')
    parser.add_argument('--quick', action='store_true', help='do not open images')
    parser.add_argument('--limit', type=int, metavar='N', help='open at most N images of each dataset')
    parser.add_argument('--workers', type=int, metavar='N', default=_default_workers(),
                        help='threads that read images (default: %(default)s)')
    parser.add_argument('--samples', type=int, metavar='N', default=12,
                        help='training samples to draw (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the samples (default: %(default)s)')
    parser.add_argument('--strict', action='store_true', help='exit status 1 also for warnings')
    parser.add_argument('--out', type=Path, metavar='FOLDER',
                        help='folder of the report (default: check in the work dir of the config)')
    args = parser.parse_args()
    if args.workers < 1 or args.samples < 0 or args.limit is not None and args.limit < 1:
        parser.error('--workers and --limit must be 1 or more, --samples 0 or more')
    return args


def _default_workers():
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return min(cpus, MOST_WORKERS)


def main() -> None:
    args = _parse_args()
    cfg = read_config(args)
    if not any(cfg.get(f'{split}_dataloader') for split in args.splits):
        loaders = ' or '.join(f'{split}_dataloader' for split in args.splits)
        raise UsageError(f'config {args.config} has no {loaders}', 'bad-config')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    out = args.out or Path(
        cfg.get('work_dir') or osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])) / 'check'
    try:
        # Fail now, not after an hour of reading.
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f'folder {out} cannot be written ({error.strerror}): choose another with --out',
                         'output-failed') from error
    examination = examine(
        cfg, args.splits, read_images=not args.quick, limit=args.limit, workers=args.workers,
        samples=args.samples, seed=args.seed, report=lambda line: print(line, flush=True))
    status = examination.status(strict=args.strict)
    print('\n'.join(lines(examination)))
    written = write_report(out, examination, config=args.config, status=status)
    print(f'written: {out}/{", ".join(path.name for path in written)}', flush=True)
    sys.exit(status)


if __name__ == '__main__':
    run(main)
