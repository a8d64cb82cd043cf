"""Inspect checkpoints, compare them with a config, and make files to publish."""

import argparse
import sys
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from ..checkpoints.check import check_checkpoint_file, state_dict_of
from ..checkpoints.fit import fit_weights
from ..checkpoints.publishing import published, save_published, save_safetensors
from ..checkpoints.summary import summarise_checkpoint
from ..errors import UsageError
from ..launching.command_line import Parser, add_config_options, add_trust_option, run, trust_if_told
from ..launching.configs import read_config


def _parse_args():
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)

    def command(name, words):
        added = commands.add_parser(name, help=words, description=words)
        added.add_argument('file', help='checkpoint: a local .pth or .safetensors file')
        add_trust_option(added)
        return added

    command('inspect', 'show what a file contains')
    added = command('compare', 'names and shapes against the model of a config; exit status 1 if they differ')
    added.add_argument('config', help='path of the config file')
    add_config_options(added)
    for name, words, out in (
            ('strip', 'write the weights and their description, to publish', 'NAME.pth; the name becomes '
             'NAME-XXXXXXXX.pth with the first digits of the SHA-256'),
            ('convert', 'the same, as a safetensors file', 'NAME.safetensors')):
        added = command(name, words)
        added.add_argument('out', help=out)
        added.add_argument(
            '--ema', action=argparse.BooleanOptionalAction,
            help='take the moving average of a training with EMAHook, or its plain weights; default: what a '
            'test loads, which is the average if the file has one')
        added.add_argument(
            '--no-config', action='store_true', help='leave the text of the config out: it may name folders')
        added.add_argument(
            '--prefix', default='', help='take only weights whose names begin with this, for example '
            '"model." or "teacher.", and remove it from the names')
        added.add_argument('--force', action='store_true', help='replace an existing file')
    return parser.parse_args()


def main() -> None:
    args = _parse_args()
    trust_if_told(args)
    if '://' in args.file:
        raise UsageError(f'{args.file}: this command reads local files: download it first', 'bad-argument')
    checkpoint = check_checkpoint_file(args.file, what='file')
    assert checkpoint is not None  # None is possible only for a URL
    if args.command == 'inspect':
        print('\n'.join(summarise_checkpoint(args.file, checkpoint)))
    elif args.command == 'compare':
        sys.exit(_show_fit(args, checkpoint))
    else:
        content = published(checkpoint, args.file, average=args.ema, with_config=not args.no_config,
                            prefix=args.prefix)
        if args.command == 'strip':
            args.out = save_published(content, args.out, force=args.force)
        else:
            save_safetensors(content, args.out, force=args.force)
        before, after = (Path(path).stat().st_size / 1e6 for path in (args.file, args.out))
        print(f'{args.out}: {len(content["state_dict"])} tensors, {after:.1f} MB instead of {before:.1f} MB')


def _show_fit(args, checkpoint):
    """Print how file and model differ; 1 if they do, else 0."""
    cfg = read_config(args)
    if 'model' not in cfg:
        raise UsageError(f'config {args.config} has no model', 'bad-config')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    _, fit = fit_weights(state_dict_of(checkpoint, args.file), MODELS.build(cfg.model))
    for name in fit.missing:
        print(f'missing in the file  {name} {fit.model[name]}')
    for name, (theirs, ours) in fit.reshaped.items():
        print(f'of another shape     {name} {theirs} in the file, {ours} in the model')
    for name in fit.extra:
        print(f'not in the model     {name} {fit.file[name]}')
    fits = fit.fitting == fit.total and not fit.extra
    others = f', and {len(fit.extra)} others' if fit.extra else ''
    print(f'{args.file} has {fit.fitting} of {fit.total} tensors of the model of {args.config}{others}'
          + ('' if fits else f': {fit.hint()}'))
    return 0 if fits else 1


if __name__ == '__main__':
    run(main)
