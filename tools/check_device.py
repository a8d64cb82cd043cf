"""Prove a machine in minutes: versions, golden cases, precisions, GPU code, one worker, speed; one table."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'projects')]

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet import UsageError  # noqa: E402  isort: skip
from deqdet.launching.command_line import run  # noqa: E402  isort: skip
import torch  # noqa: E402
from deqdet.device_check import (  # noqa: E402
    CHECKS,
    Setting,
    as_json,
    problem_of,
    run_checks,
    table_of,
    verdict_of,
)
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

GOLDEN = ROOT / 'tests' / 'data' / 'golden'


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__ + ' The last lines name what does not hold; status 1 then, else 0.')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='cpu, cuda or cuda:N (default: cuda where there is one)')
    parser.add_argument('--only', nargs='+', choices=CHECKS, metavar='CHECK',
                        help=f'run these checks only, of: {", ".join(CHECKS)}')
    parser.add_argument('--skip', nargs='+', choices=CHECKS, default=[], metavar='CHECK',
                        help='leave these checks out')
    parser.add_argument('--golden', type=Path, metavar='FOLDER', help='golden cases (default: those of the '
                        'checkout, or of DEQDET_GOLDEN)')
    parser.add_argument('--quick', action='store_true', help='small sizes and one round; times say little')
    parser.add_argument('--rounds', type=int, default=3, help='timed rounds (default: 3)')
    parser.add_argument('--seconds', type=float, default=200,
                        help='after so many no further check begins (default: 200)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write all findings there, as JSON')
    return parser.parse_args()


def setting_of(args):
    """What the checks get."""
    try:
        device = torch.device(args.device)
    except RuntimeError as error:
        raise UsageError(f'--device {args.device}: must be cpu, cuda or cuda:N') from error
    problem = problem_of(device)
    if problem:
        raise UsageError(f'--device {args.device}: {problem}')
    if device.type == 'cuda':
        device = torch.device('cuda', device.index or 0)
        torch.cuda.set_device(device)
    if args.rounds < 1:
        raise UsageError(f'--rounds {args.rounds}: must be at least 1')
    golden = args.golden or Path(os.environ.get('DEQDET_GOLDEN', GOLDEN))
    if args.golden and not args.golden.is_dir():
        raise UsageError(f'--golden {args.golden}: there is no such folder')
    if args.out and not args.out.absolute().parent.is_dir():
        raise UsageError(f'--out {args.out}: there is no folder {args.out.absolute().parent}')
    return Setting(device=device, golden=golden if golden.is_dir() else None, quick=args.quick,
                   rounds=args.rounds)


def main():
    args = parse_args()
    setting = setting_of(args)
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='WARNING')  # not where each weight comes from
    checks = {name: check for name, check in CHECKS.items()
              if name in (args.only or CHECKS) and name not in args.skip}
    begin = time.monotonic()
    findings = run_checks(checks, setting, seconds=args.seconds,
                          tell=lambda line: print(line, file=sys.stderr, flush=True))
    seconds = time.monotonic() - begin
    print(f'\n{table_of(findings)}\n')
    print('\n'.join(verdict_of(findings)))
    print(f'{setting.device}, {seconds:.0f} s')
    if args.out:
        args.out.write_text(json.dumps(as_json(findings, setting, seconds), indent=1), encoding='utf-8')
        print(f'written: {args.out}')
    if any(finding.result == 'failed' for finding in findings):
        sys.exit(1)


if __name__ == '__main__':
    run(main)
