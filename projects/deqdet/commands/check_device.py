"""Check a machine in minutes: versions, golden cases, precisions, GPU code, one worker, speed; one table."""

import json
import os
import sys
import time
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from .. import device_check
from ..errors import UsageError
from ..launching.command_line import Parser, run, within
from ..shipped import shipped_folder

GOLDEN = shipped_folder() / 'tests' / 'data' / 'golden'


def _parse_args():
    parser = Parser(
        description=__doc__ + ' The last lines name the failed checks; the exit status is then 1, else 0.')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='cpu, cuda or cuda:N (default: cuda if there is one)')
    parser.add_argument('--only', nargs='+', choices=device_check.CHECKS, metavar='CHECK',
                        help=f'run only these checks: {", ".join(device_check.CHECKS)}')
    parser.add_argument('--skip', nargs='+', choices=device_check.CHECKS, default=[], metavar='CHECK',
                        help='do not run these checks')
    parser.add_argument('--golden', type=Path, metavar='FOLDER', help='golden cases (default: those of the '
                        'checkout, or of DEQDET_GOLDEN)')
    parser.add_argument('--quick', action='store_true', help='small sizes, one round; times mean little')
    parser.add_argument('--rounds', type=within(1), default=3, help='timed rounds (default: 3)')
    parser.add_argument('--seconds', type=float, default=200,
                        help='start no check after this time (default: 200)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write all findings to this file, as JSON')
    return parser.parse_args()


def _setting_of(args):
    """The settings of the checks."""
    try:
        device = torch.device(args.device)
    except RuntimeError as error:
        raise UsageError(f'--device {args.device}: must be cpu, cuda or cuda:N', 'bad-argument') from error
    problem = device_check.problem_of(device)
    if problem:
        raise UsageError(f'--device {args.device}: {problem}', 'no-device')
    if device.type == 'cuda':
        device = torch.device('cuda', device.index or 0)
        torch.cuda.set_device(device)
    golden = args.golden or Path(os.environ.get('DEQDET_GOLDEN', GOLDEN))
    if args.golden and not args.golden.is_dir():
        raise UsageError(f'--golden {args.golden}: the folder does not exist', 'missing-file')
    if args.out and not args.out.absolute().parent.is_dir():
        raise UsageError(f'--out {args.out}: the folder {args.out.absolute().parent} does not exist',
                         'missing-file')
    return device_check.Setting(device=device, golden=golden if golden.is_dir() else None, quick=args.quick,
                   rounds=args.rounds)


def main() -> None:
    args = _parse_args()
    setting = _setting_of(args)
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='WARNING')  # hides the origin of each initial weight
    checks = {name: check for name, check in device_check.CHECKS.items()
              if name in (args.only or device_check.CHECKS) and name not in args.skip}
    begin = time.monotonic()
    findings = device_check.run_checks(checks, setting, seconds=args.seconds,
                          tell=lambda line: print(line, file=sys.stderr, flush=True))
    seconds = time.monotonic() - begin
    print(f'\n{device_check.table_of(findings)}\n')
    print('\n'.join(device_check.verdict_of(findings)))
    print(f'{setting.device}, {seconds:.0f} s')
    if args.out:
        found = device_check.as_json(findings, setting, seconds)
        args.out.write_text(json.dumps(found, indent=1), encoding='utf-8')
        print(f'written: {args.out}')
    if any(finding.result == 'failed' for finding in findings):
        sys.exit(1)


if __name__ == '__main__':
    run(main)
