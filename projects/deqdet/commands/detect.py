"""Detect objects in images or videos, and write pictures, COCO's JSON and CSV.

Run the same command again to continue an interrupted run. tools/dist_detect.sh starts several workers;
--shard is for job arrays. Exit status: 0 if everything was read, 3 if some files were broken (they are listed
at the end), 2 if the command cannot run, 130 after Ctrl-C.
"""

import hashlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

from mmdet.utils import get_test_pipeline_cfg

from ..data.findings import some_of
from ..errors import UsageError, shown_name
from ..files.disk import check_work_dir
from ..inference import DEQDetInferencer
from ..inference.formats import is_address, is_video
from ..inference.frames import Frames
from ..inference.inputs import PICTURES, Found, find, find_videos, in_words
from ..inference.job import Job
from ..inference.reading import warnings_in_one_line
from ..inference.results import (
    Annotations,
    read_annotations,
    write_coco,
    write_coco_masks,
    write_coco_results,
    write_csv,
)
from ..inference.run import Run, check_targets
from ..inference.settings import parse_tolerance, settings_of, tolerance_config
from ..inference.windows import OVERLAP, tiling_of
from ..inference.workers import WHOLE, Workers, connect, parse_part
from ..launching.command_line import Parser, add_config_options, add_trust_option, run, trust_if_told, within

#: Exit status if some files could not be read. Python uses 1 for an error in the program.
SOME_BROKEN = 3

# Defaults for videos: a frame is solved when a step moves it less than this tolerance, or after this many
# steps.
_VIDEO_TOLERANCE, _VIDEO_STEPS = 0.1, 25


def build_parser() -> Parser:
    """The command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file, or the name of a config that comes with the package')
    parser.add_argument('checkpoint', help='file (.pth, .safetensors) or URL')
    parser.add_argument('inputs', nargs='+', metavar='INPUT',
                        help='image, folder (with all folders below it), pattern in quotes, URL; or videos')
    parser.add_argument('--out', type=Path, default=Path('detections'), metavar='DIR',
                        help='folder for the results (default: %(default)s)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='default: detections.json in --out')
    parser.add_argument('--csv', type=Path, metavar='FILE', help='also write a table of the detections')
    parser.add_argument('--annotations', metavar='FILE',
                        help="COCO annotation file of the images: write the JSON as COCO's server wants it, "
                             'with the ids of this file')
    parser.add_argument('--masks', choices=['rle', 'polygons', 'none'],
                        help='form of the masks in the JSON; none: leave them out, also of the pictures '
                             '(default: rle, if the model finds masks)')
    parser.add_argument('--no-pictures', dest='pictures', action='store_false',
                        help='write no pictures and no videos')
    parser.add_argument('--score', type=within(0, 1, kind=float), default=0.3,
                        help='pictures and CSV show detections above this score; the JSON has all '
                             '(default: %(default)s)')
    parser.add_argument('--batch-size', type=within(1), default=1, metavar='N',
                        help='images at a time (default: %(default)s)')
    parser.add_argument('--tile', type=int, metavar='PX',
                        help='for large images: detect in overlapping windows with this side, and merge '
                             'their detections; --batch-size then counts windows')
    parser.add_argument('--overlap', type=float, metavar='SHARE',
                        help='least share of a window that its neighbours see, too; larger than most objects '
                             f'(default: {OVERLAP})')
    parser.add_argument('--device', help='for example cpu or cuda:1 (default: a GPU if there is one)')
    parser.add_argument('--steps', type=within(0), metavar='N',
                        help='most refinements before the last one (default: as in the config; for '
                             f'videos {_VIDEO_STEPS})')
    parser.add_argument('--tol', nargs='+', metavar='LIMIT',
                        help='an image is solved when a step moves it less: a number, or content=NUMBER '
                             f'position=PIXELS (default: as in the config; for videos {_VIDEO_TOLERANCE})')
    parser.add_argument('--solver', help='NAME or NAME:KEY=VALUE,... (default: as in the config)')
    parser.add_argument('--frames', action='store_true',
                        help='each folder is a video: its images are the frames')
    parser.add_argument('--cold', action='store_true',
                        help='solve each frame of a video from the start, not from the last frame')
    parser.add_argument('--restart', action='store_true',
                        help='delete the saved results of an earlier run and start again')
    parser.add_argument('--shard', type=parse_part, default=WHOLE, metavar='I/N',
                        help='process one of N shares of the inputs, I from 1 to N, for arrays of jobs: use '
                             'the same command with each I; the last job to finish writes the results')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='job launcher; tools/dist_detect.sh and tools/slurm_detect.sh set it')
    add_trust_option(parser)
    add_config_options(parser)
    return parser


def main(words: Optional[Sequence[str]] = None) -> None:
    """Run the command.

    Args:
        words (Sequence[str], optional): Command-line words; by default those of the process.

    Raises:
        SystemExit: With a status other than 0.
        UsageError: If the command cannot run.
    """
    args = build_parser().parse_args(words)
    trust_if_told(args)
    status = _detect(args, connect(args.launcher, args.device))
    if status:
        sys.exit(status)


def _detect(args, workers: Workers) -> int:
    """The work of one worker; returns the exit status."""
    videos = args.frames or any(is_video(word) for word in args.inputs)

    if args.restart and args.shard != WHOLE:
        raise UsageError('--restart would delete the results of the other shards: use another folder with '
                         '--out, or delete this one before the first shard starts', 'output-exists')
    if args.tol is not None:
        args.tol = parse_tolerance(args.tol, name='--tol')

    tiling = tiling_of(args.tile, args.overlap, prefix='--')
    if tiling and videos:
        raise UsageError(f'--tile {args.tile} is for images, not for videos: remove --tile', 'bad-argument')

    if args.masks == 'polygons' and args.annotations:
        raise UsageError("--masks polygons: COCO's server and COCO.loadRes read only RLE: remove --masks, or "
                         '--annotations', 'bad-argument')

    def inputs_of_all():
        check_work_dir(args.out, option='--out')
        found = _inputs_of(args, videos)
        _check_results(args, found.inputs)
        return found

    # Only the first worker lists the inputs and reports errors, since files may appear meanwhile.
    inputs, skipped = workers.share(inputs_of_all)
    inferencer = DEQDetInferencer(args.config, args.checkpoint, workers.device, cfg_options=args.cfg_options,
                                  show_progress=False)
    if args.masks and not inferencer.has_masks:
        raise UsageError(f'--masks {args.masks}: the model of {args.config} finds no masks, it has no '
                         'mask_head: remove --masks', 'unsupported-decoder')
    masks = (args.masks or 'rle') if inferencer.has_masks else 'none'
    if workers.first and masks != 'none' and args.annotations:
        _check_results(args, inputs, masks_file=_masks_file(args))
    ids = _ids(args, inputs, inferencer.classes) if workers.first else None
    settings = _settings(args, videos, inferencer)
    windows = asdict(tiling) if tiling else {}
    settings_of(inferencer.model, **settings)  # report wrong ones before the journal is created
    if args.pictures:
        check_targets(inputs, args.out, videos=videos)

    def run_of(journal):
        return Run(inferencer, inputs, journal, args.out, videos=videos, batch_size=args.batch_size,
                   warm=not args.cold, draw_masks=args.masks != 'none', tiling=tiling)

    depends_on = dict(_depends_on(args, inferencer, settings, videos), **windows)
    job = Job(args.out, inputs, run_of, depends_on, workers, args.shard)

    def report(run):
        try:
            return _report(args, run, inferencer.classes, ids, dict(settings, **windows), videos, skipped,
                           masks)
        except OSError as error:
            raise UsageError(f'{error.filename} cannot be written ({error.strerror}): free some space or use '
                             'another file, then run the command again: no result is lost',
                             'output-failed') from error

    score = args.score if args.pictures else None
    with warnings_in_one_line():
        missing, status = job.run(report, score=score, restart=args.restart, **settings)
    if missing:
        print(f'shard {args.shard} is done; the results are written after shard {some_of(missing)}',
              flush=True)
    return status


def _json_file(args) -> Path:
    return args.json or args.out / 'detections.json'


def _masks_file(args) -> Path:
    """The second list of results: masks, beside the boxes."""
    path = _json_file(args)
    return path.with_name(f'{path.stem}.segm{path.suffix}')


def _check_results(args, inputs, masks_file: Optional[Path] = None):
    """The results must be different files, and must not replace a file that the command reads."""
    read = [*(each.path for each in inputs), args.config, args.checkpoint, args.annotations or '']
    files = {os.path.realpath(path) for path in read if path and not is_address(path)}
    if args.csv and args.csv.resolve() in [path.resolve() for path in (args.json, masks_file) if path]:
        raise UsageError(f'--json and --csv are the same file, {args.csv}: use two names', 'bad-argument')
    for name, path in (('--json', args.json), ('--json', masks_file), ('--csv', args.csv)):
        if path is not None and path.is_dir():
            raise UsageError(f'{name} {path} is a folder: use the name of a file', 'bad-argument')
        if path is not None and os.path.realpath(path) in files:
            raise UsageError(f'{name} {path} would overwrite an input: use another file', 'output-exists')


def _inputs_of(args, videos) -> Found:
    if not videos:
        return find(args.inputs, leave_out=args.out / PICTURES)
    if args.annotations:
        raise UsageError('--annotations is for images, not for videos', 'bad-argument')
    found = find_videos(args.inputs, folders=args.frames)
    for each in found.inputs:
        Frames(each.path)  # report a video without frames before any detection
    return found


def _ids(args, inputs, classes) -> Optional[Annotations]:
    if args.annotations is None:
        return None
    ids = read_annotations(args.annotations, classes)
    numbers: Dict[int, str] = {}
    for each in inputs:
        number = ids.image_id(each.path)
        if number is None:
            raise UsageError(f'{each.path} is not in --annotations {args.annotations}: use the file of these '
                             'images', 'images-mismatch')
        if number in numbers:
            raise UsageError(f'{each.path} and {numbers[number]} are the same image of --annotations '
                             f'{args.annotations}: use only one', 'images-mismatch')
        numbers[number] = each.path
    return ids


def _settings(args, videos, inferencer) -> Dict[str, Any]:
    """The settings of the decoder."""
    settings = dict(steps=args.steps, tol=args.tol, solver=args.solver)
    if videos and inferencer.solves_equilibrium:
        settings['tol'] = settings['tol'] or tolerance_config(_VIDEO_TOLERANCE)
        settings['steps'] = _VIDEO_STEPS if args.steps is None else args.steps
    return settings


def _depends_on(args, inferencer, settings, videos) -> Dict[str, Any]:
    """The settings that the results depend on, by option name."""
    relevant = dict(model=inferencer.cfg.model.to_dict(), pipeline=get_test_pipeline_cfg(inferencer.cfg),
                    classes=inferencer.classes)
    depends = dict(
        config=hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest(),
        weights=args.checkpoint if is_address(args.checkpoint) else hashlib.sha256(
            Path(args.checkpoint).expanduser().read_bytes()).hexdigest(), **settings)
    depends.update(dict(cold=args.cold) if videos else dict(batch_size=args.batch_size))
    return depends


def _report(args, run, classes, ids, settings, videos, skipped: Mapping[str, int], masks: str) -> int:
    """Write the files and print a summary; returns the exit status."""
    broken = [(shown_name(each), reason) for each, reason in run.broken()]
    path = _json_file(args)
    written = [str(path)]
    writer = '' if args.shard == WHOLE else f'.shard{args.shard.number}'
    if ids is None:
        info = dict(description='Detections of DEQDet', config=args.config, checkpoint=args.checkpoint,
                    **settings, broken=[dict(path=each, reason=reason) for each, reason in broken])
        write_coco(path, run.records, classes, info, masks=masks, writer=writer)
    else:
        write_coco_results(path, run.records, ids, writer=writer)
        if masks != 'none':
            write_coco_masks(_masks_file(args), run.records, ids, writer=writer)
            written.append(str(_masks_file(args)))
    if args.csv:
        write_csv(args.csv, run.records, classes, score=args.score, video=videos, writer=writer)
        written.append(str(args.csv))
    if args.pictures:
        written.append(f'{args.out / PICTURES}/')
    images, found, spent = 0, 0, []
    for record in run.records():
        images += 1
        found += sum(score > args.score for score in record['scores'])
        if record.get('refinements') is not None:
            spent.append(record['refinements'])
    refinements = f', {sum(spent) / len(spent):.2f} refinements a frame' if spent else ''
    print(f'{images} {"frames" if videos else "images"}, {found} detections above {args.score:g}{refinements}'
          f'; written: {shown_name(", ".join(written))}'
          f'{shown_name("; skipped, not images: " + in_words(skipped)) if skipped else ""}', flush=True)
    if broken:
        print(f'{len(broken)} could not be read{" to the end" if videos else ""}:', file=sys.stderr)
        for each, reason in broken:
            print(f'  {each}: {reason}', file=sys.stderr)
        sys.stderr.flush()
    return SOME_BROKEN if broken else 0


if __name__ == '__main__':
    run(main)
