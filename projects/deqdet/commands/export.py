"""Write a detector as an ONNX file, or its refinement layer as a program of torch.export, and check it."""

from pathlib import Path

import mmcv
import torch

from .. import export
from ..analysis import read_image
from ..checkpoints.publishing import refuse_to_overwrite
from ..errors import UsageError
from ..files.atomic import written_aside
from ..launching.command_line import Parser, add_config_options, add_trust_option, run, within

# Maximum number of images for measuring ranges.
CALIBRATION = 64


def _parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', help='local .pth or .safetensors file')
    parser.add_argument('out', help='NAME.onnx: the detector; NAME.pt2: its refinement layer, for '
                                    'torch.export.load')
    parser.add_argument(
        '--steps', type=_steps_of, metavar='N',
        help='refinements before the last one, as refinement_steps counts them, or "given": an input of the '
             'file (default: those of the config)')
    parser.add_argument('--unroll', action='store_true', help='write no Loop, for runtimes without '
                                                              'it; needs fixed steps')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'),
                        help='height and width of the images to record with, after resizing and padding')
    parser.add_argument('--no-dynamic', dest='dynamic', action='store_false',
                        help='only for one image of --shape at a time, not any number of any size')
    parser.add_argument('--opset', type=within(export.OPSET), default=export.OPSET,
                        help=f'opset of ONNX, {export.OPSET} (the default) or more')
    parser.add_argument('--no-masks', dest='masks', action='store_false',
                        help='of a detector with masks, write only the boxes')
    parser.add_argument('--check', nargs='+', default=[], metavar='IMAGE',
                        help='images to compare the file with PyTorch on (default: random ones)')
    parser.add_argument('--int8', nargs='+', type=Path, metavar='IMAGE',
                        help='write eight bits; measure the ranges of values on these images, or folders of '
                             f'images; at most {CALIBRATION} images are used')
    parser.add_argument('--force', action='store_true', help='replace an existing file')
    add_config_options(parser)
    add_trust_option(parser)
    return parser.parse_args()


def _steps_of(word):
    return word if word == export.GIVEN else within(0)(word)


def main() -> None:
    args = _parse_args()
    _check(args)
    detector, notes = export.load_detector(args, masks=args.masks and args.out.endswith('.onnx'))
    used = ['torch'] if args.out.endswith('.pt2') else list(export.TRIED)
    for note in (*notes, export.untried_versions(used)):
        if note:
            print(note)
    if args.out.endswith('.pt2'):
        _write_refinement(args, detector)
    else:
        _write_detector(args, detector)


def _check(args):
    """Check the options before anything is loaded."""
    if not args.out.endswith(('.onnx', '.pt2')):
        raise UsageError(f'{args.out}: the name must end in .onnx (the detector) or .pt2 (its refinement '
                         'layer)', 'bad-argument')
    if args.out.endswith('.onnx'):
        export.require_packages()
    refuse_to_overwrite(args.out, args.force)
    if args.unroll and args.steps == export.GIVEN:
        raise UsageError('--unroll needs a fixed number of steps: use --steps N', 'bad-argument')
    if not args.dynamic and args.shape is None:
        raise UsageError('--no-dynamic needs the size of the images: add --shape HEIGHT WIDTH',
                         'missing-argument')


def _write_refinement(args, detector):
    """Write the program of torch.export."""
    program = export.record_refinement(
        detector.model, dynamic=args.dynamic, **(dict(shape=tuple(args.shape)) if args.shape else {}))
    with written_aside(args.out) as aside:
        with open(aside, 'wb') as file:
            torch.export.save(program, file)
        with open(aside, 'rb') as file:
            read = torch.export.load(file).module()
        shape = None if args.dynamic else args.shape
        far = max(export.compare_program(read, detector.model, images, shape=shape)
                  for images in _images_to_compare(args, detector))
        if not far <= export.STEP_LIMIT:
            raise UsageError(f'{args.out} is not written: its refinement differs from the detector\'s by '
                             f'{far:.2g} (relative, limit {export.STEP_LIMIT:g})', 'export-differs')
    print(f'{args.out}: {Path(args.out).stat().st_size / 1e6:.1f} MB, the refinement layer: '
          f'features, position, content, box -> position, content, box, logits; differs from the detector '
          f'by {far:.2g}, relative')


def _write_detector(args, detector):
    """Write the ONNX file. It gets its name only after the comparison with the detector."""
    model = detector.model
    default = model.roi_head.prediction.steps
    steps = default if args.steps is None else args.steps
    parts = export.record_parts(model, dynamic=args.dynamic, opset=args.opset, masks=args.masks,
                                shape=tuple(args.shape) if args.shape else None)
    if parts.refinement is None and (args.steps is not None or args.unroll):
        raise UsageError(f'{type(model.roi_head).__name__} has no steps: remove --steps and --unroll',
                         'unsupported-decoder')
    metadata = export.describe(model, detector.cfg, classes=detector.classes, steps=steps,
                               masks=args.masks)
    form = dict(steps=steps, unroll=args.unroll)
    with written_aside(args.out) as aside:
        joined = export.join_parts(parts, **form, metadata=metadata)
        Path(aside).write_bytes(joined.SerializeToString())
        batches = _images_to_compare(args, detector)
        run_steps = default if steps == export.GIVEN else steps
        agreement = _compare(detector, aside, batches, run_steps)
        said = f'checked against PyTorch: {agreement}'
        if parts.refinement is not None:
            traced = export.TracedFile(export.join_parts(parts, **form, traced=True))
            said += _judge_steps(args, detector.model, traced, batches, run_steps, agreement)
        elif not agreement.good:
            _refuse(args, agreement)
        if args.int8:
            # Its scores exceed those limits. Only a test set shows its quality.
            small = export.quantise_parts(parts, _calibration(args, detector))
            metadata['int8'] = 'yes'
            joined = export.join_parts(small, **form, metadata=metadata)
            Path(aside).write_bytes(joined.SerializeToString())
            loss = _compare(detector, aside, batches, run_steps)
            said += (f' before quantisation, and scores within {loss.scores:.2g} with eight bits; '
                     'tools/analysis/exported.py measures the AP')
    print(f'{args.out}: {Path(args.out).stat().st_size / 1e6:.1f} MB, {said}')
    if metadata['resize'] == 'null':
        print('the test pipeline of the config does more than resize, so demo/onnx_detect.py cannot use this '
              'file')


def _calibration(args, detector):
    """Inputs of the calibration images, one by one."""
    shape = tuple(args.shape) if args.shape and not args.dynamic else None
    paths = [path for each in args.int8 for path in
             (sorted(each.iterdir()) if each.is_dir() else [each])]
    paths = paths[::-(-len(paths) // CALIBRATION)] if paths else []
    if not paths:
        raise UsageError(f'--int8 {args.int8[0]}: the folder is empty', 'bad-argument')
    return [export.inputs_of([_network_input(detector.cfg, path)], export.size_divisor(detector.model), shape)
            for path in paths]


def _images_to_compare(args, detector):
    """Batches: the given images, or one random image and four of several sizes."""
    if args.check:
        return [[_network_input(detector.cfg, path)] for path in args.check]
    divisor = max(export.size_divisor(detector.model), 32)
    height, width = args.shape or (4 * divisor, 5 * divisor)
    batches = [export.random_images([(height - 7, width)])]
    if args.dynamic:
        sizes = [(height, width), (height, width - 20), (height - 9, width + 11), (height // 2, width)]
        batches.append(export.random_images(sizes, seed=1))
    return batches


def _compare(detector, path, batches, steps):
    """Compare detections of the file with those of the detector."""
    session = export.open_file(path)
    return export.worst(
        export.compare_batch(session, detector.model, images, steps=steps) for images in batches)


def _judge_steps(args, model, traced, batches, steps, agreement):
    """Require that every step of the file agrees with PyTorch, and its detections too, unless PyTorch's own
    depend on rounding. Returns a note for the user."""
    # If the detections of a whole batch agree, one batch is enough.
    single = export.compare_steps(traced, model, batches[:1 if agreement.good else None], steps=steps)
    if not single.good:
        raise UsageError(f'{args.out} is not written: it does not compute what PyTorch does ({single}; limit '
                         f'{export.FEATURE_LIMIT:g} for features, else {export.STEP_LIMIT:g})',
                         'export-differs')
    if agreement.good:
        return ''
    growth = export.compare_paths(traced, model, batches, steps=steps)
    if not growth.explains:
        _refuse(args, agreement)
    return (f'; this model expands rounding, as random weights do, so the limits {export.BOX_LIMIT:g} px and '
            f'{export.SCORE_LIMIT:g} do not apply to its detections: {growth}; {single}')


def _refuse(args, agreement):
    limits = f'{export.BOX_LIMIT:g} px and {export.SCORE_LIMIT:g}'
    if agreement.masks is not None:
        limits += f', for masks {export.MASK_LIMIT:g}'
    raise UsageError(f'{args.out} is not written: it differs from PyTorch ({agreement}; limits '
                     f'{limits}); if these images are unlike those '
                     'of the training, use others: --check IMAGE...', 'export-differs')


def _network_input(cfg, path):
    """An image after the test pipeline, RGB, before padding."""
    _, data = read_image(cfg, path)
    return mmcv.bgr2rgb(data['inputs'][0].permute(1, 2, 0).numpy())


if __name__ == '__main__':
    run(main)
