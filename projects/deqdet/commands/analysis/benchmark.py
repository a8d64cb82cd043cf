"""Time of each part of a detector, or of a training step, and peak memory, in the released form and others.

The reference is the form of the released models: one `grid_sample` per level, separate memory for every
result, the class branch at every step, float32, and in training a backward pass after each supervised
position. The forms take turns in one process; peak memory is measured in a separate process for each form.
Without a checkpoint, weights, images and boxes are random. This affects no time except that of a tolerance.
"""

import json
from copy import deepcopy
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Dict

import torch
from matplotlib.figure import Figure
from mmdet.registry import DATASETS
from mmengine.dataset import pseudo_collate
from mmengine.runner import load_state_dict

from ...analysis import add_arguments, build_untrained, parse_tolerance, show_results
from ...analysis.reference import training_step
from ...analysis.timing import Stopwatch, peak_memory, surroundings, take_turns
from ...analysis.trial import form_of, random_batch
from ...checkpoints.check import check_checkpoint_file
from ...checkpoints.fit import fit_weights
from ...errors import UsageError
from ...inference.model_files import read_weights
from ...launching.command_line import Parser, run, within
from ...training.running import load_config

#: Settings of each form in ``test_cfg.rcnn``.
PREDICTION: Dict[str, Dict[str, Any]] = {
    'reference': {},
    'float32': {},
    'bfloat16': dict(solve_dtype='bfloat16'),
    'float16': dict(solve_dtype='float16'),
}
#: Settings of each form in ``roi_head``.
TRAINING: Dict[str, Dict[str, Any]] = {
    'reference': {},
    'plain graph': dict(grad_accumulation=False),
    'default': {},
    'default, bfloat16 path': dict(solve_dtype='bfloat16'),
}
DECODER = ('prepare', 'initialise', 'solve', 'last refinement', 'select')


def _parse_args():
    parser = Parser(description=__doc__)
    add_arguments(parser, weights=False)
    parser.add_argument('--training', action='store_true', help='a training step instead of a prediction')
    parser.add_argument('--forms', nargs='+', metavar='FORM',
                        help=f'forms to compare: {", ".join(PREDICTION)}; with --training: '
                        f'{", ".join(map(repr, TRAINING))}; ratios refer to the first (default: all but '
                        'float16)')
    parser.add_argument('--tolerance', nargs='+', metavar='PART=LIMIT', help='also each form except the '
                        'reference with a tolerance, for example content=0.2 position=0.5')
    parser.add_argument('--shape', type=within(32), nargs=2, action='append', metavar=('H', 'W'),
                        help='size of the images in pixels; you may repeat the option (default: 800 1344)')
    parser.add_argument('--data', type=int, metavar='N', help='use the first N images of the test data, '
                        'in batches of --images, instead of random ones')
    parser.add_argument('--queries', type=int, nargs='+', help='numbers of queries (default: the config\'s)')
    parser.add_argument('--steps', type=int, metavar='N',
                        help='refinements before the last one (default: those of the config)')
    parser.add_argument('--images', type=int, default=1, help='images in the batch (default: 1)')
    parser.add_argument('--objects', type=int, default=8, help='objects an image, in training (default: 8)')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch (default: 2)')
    parser.add_argument('--rounds', type=within(1), default=5, help='timed rounds (default: 5)')
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--compile', action='store_true', help='each form except the reference with a '
                        'compiled refinement')
    parser.add_argument('--no-memory', action='store_true', help='do not measure the peak memory')
    args = parser.parse_args()
    known = TRAINING if args.training else PREDICTION
    args.forms = args.forms or [form for form in known if form != 'float16']
    unknown = [form for form in args.forms if form not in known]
    if unknown:
        raise UsageError(f'--forms {unknown[0]!r}: must be one of {", ".join(map(repr, known))}',
                         'bad-argument')
    if args.training and (args.tolerance or args.data):
        parser.error('--tolerance and --data are for predictions')
    args.shape = args.shape or [[800, 1344]]
    if args.data:
        args.shape = [None]
    return args


def _build(args, queries):
    """The detector of the config, with random weights or those of the checkpoint."""
    cfg = load_config(args)
    if args.checkpoint:
        check_checkpoint_file(args.checkpoint)
    if cfg.model.get('roi_head', {}).get('type') != 'DEQDetRoIHead':
        raise UsageError(f'config {args.config}: its decoder is not a DEQDetRoIHead', 'unsupported-decoder')
    if queries:
        cfg.model.rpn_head.num_proposals = queries
    if args.steps is not None:
        cfg.model.roi_head.refinement_steps = args.steps
        cfg.model.test_cfg.rcnn.pop('refinement_steps', None)
    torch.manual_seed(0)
    model = build_untrained(cfg)
    model.init_weights()
    if args.checkpoint:
        weights = read_weights(args.checkpoint, trust=args.trust_checkpoint)['state_dict']
        load_state_dict(model, fit_weights(weights, model)[0])
    return cfg, model.to(args.device).train(args.training)


def _in_form(args, model, form, tolerance=None):
    """A copy of the detector in one of the forms, with the same parameters."""
    options = TRAINING[form] if args.training else dict(
        prediction={'solve_dtype': None, **PREDICTION[form], 'tolerance': tolerance})
    return form_of(model, reference=form == 'reference', compiled=args.compile, **options)


def _batches(args, cfg, model, shape):
    """The inputs of a form in one round."""
    if not args.data:
        return [random_batch(model, tuple(shape), images=args.images, objects=args.objects)]
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    count = min(args.data, len(dataset))
    return [pseudo_collate([dataset[index] for index in range(first, min(first + args.images, count))])
            for first in range(0, count, args.images)]


@torch.no_grad()
def _predict(args, model, data):
    """Seconds by part of a prediction of all batches."""
    watch, head = Stopwatch(), model.roi_head
    for batch in data:
        with watch.part('preprocess'):
            batch = model.data_preprocessor(deepcopy(batch), False)
        samples = batch['data_samples']
        with watch.part('backbone'):
            levels = model.backbone(batch['inputs'])
        with watch.part('neck'):
            features = model.neck(levels)
        with watch.part('prepare'):
            proposals = model.rpn_head.predict(features, samples)
            pyramid, state = head.pyramid(features), head.initial_state(proposals)
        with watch.part('initialise'):
            state = head.initialise(pyramid, state, classify=False, dtype=head.prediction.solve_dtype)
        with watch.part('solve'):
            path = head.prediction_path(pyramid, state)
        with watch.part('last refinement'):
            state = head.predict_from(pyramid, path.final)
        with watch.part('select'):
            head.select_all(features, state, [sample.metainfo for sample in samples], True, head.prediction)
    return {part: seconds / len(data) for part, seconds in watch.seconds.items()}


def _train(args, model, data):
    """Seconds of losses and backward pass of all batches."""
    watch = Stopwatch()
    for batch in data:
        model.zero_grad()
        torch.manual_seed(0)  # all forms draw the same coins
        batch = model.data_preprocessor(deepcopy(batch), True)
        with watch.part('step'):
            training_step(model, batch['inputs'], batch['data_samples'])
    return watch.seconds


def _forms_of(args, model):
    """The detector in every measured form, by name."""
    found = {form: _in_form(args, model, form) for form in args.forms}
    if args.tolerance:
        limits = parse_tolerance(args.tolerance, name='--tolerance')
        found.update({f'{form}, tolerance': _in_form(args, model, form, limits)
                      for form in args.forms if form != 'reference'})
    return found


def _memory_of(args, form, queries, shape):
    """Peak memory in GB of a new process that only runs one form once."""
    new = get_context('forkserver')  # the packages are imported once for all forms
    new.set_forkserver_preload([__spec__.name])  # `__name__` is that of a script
    receiver, sender = new.Pipe(duplex=False)
    process = new.Process(target=_send_peak_memory, args=(sender, args, form, queries, shape))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        raise UsageError(f'the process that measures the memory of {form!r} ended with status '
                         f'{process.exitcode}', 'worker-failed') from None


def _send_peak_memory(sender, args, form, queries, shape):
    def measure():
        torch.set_num_threads(args.threads)
        run_once, forms, data = _prepare(args, queries, shape)
        run_once(args, forms[form], data)
        sender.send(peak_memory(args.device))

    run(measure)


def _prepare(args, queries, shape):
    """What to run, the detector in every form, and the data."""
    cfg, model = _build(args, queries)
    return _train if args.training else _predict, _forms_of(args, model), _batches(args, cfg, model, shape)


def _measure(args, queries, shape):
    """Rows of the table for a number of queries and a size."""
    run_once, forms, data = _prepare(args, queries, shape)
    turns = {name: partial(run_once, args, form, data) for name, form in forms.items()}
    rows = []
    for name, seconds in take_turns(turns, args.rounds).items():
        row = {'form': name, 'queries': forms[name].rpn_head.num_proposals,
               'size': 'data' if args.data else f'{shape[0]}x{shape[1]}'}
        row.update({f'{part} ms': 1000 * value for part, value in seconds.items()})
        if not args.training:
            row['decoder ms'] = 1000 * sum(seconds[part] for part in DECODER)
        row['all ms'] = 1000 * sum(seconds.values())
        for key in ('all ms', 'decoder ms'):
            if key in row:
                row[key.replace(' ms', ' ratio')] = row[key] / (rows[0] if rows else row)[key]
        images = sum(len(batch['inputs']) for batch in data) / len(data)
        row['images/s'] = images / sum(seconds.values())
        if not args.no_memory:
            row['peak GB'] = _memory_of(args, name, queries, shape)
        rows.append(row)
    return rows


def _draw(rows):
    """Plot time by queries and by size, a line for each form."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    key = 'decoder ms' if 'decoder ms' in rows[0] else 'all ms'
    for axis, by, other in zip(figure.subplots(1, 2), ('queries', 'size'), ('size', 'queries')):
        for name in dict.fromkeys((row['form'], row[other]) for row in rows):
            line = [row for row in rows if (row['form'], row[other]) == name]
            axis.plot([row[by] for row in line], [row[key] for row in line], 'o-',
                      label=f'{name[0]}, {name[1]}')
        axis.set_xlabel(by)
        axis.set_ylabel(key)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    return figure


def main() -> None:
    args = _parse_args()
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise UsageError(f'--device {args.device}: torch finds no GPU', 'no-device')
    torch.set_num_threads(args.threads)
    rows = [row for shape in args.shape for queries in args.queries or [None]
            for row in _measure(args, queries, shape)]
    out = args.out or Path(load_config(args).work_dir) / 'analysis'
    where = surroundings(args.device)
    print('\n' + ', '.join(f'{key} {value}' for key, value in where.items()))
    show_results(out / 'benchmark', rows, _draw(rows))
    (out / 'benchmark.json').write_text(json.dumps(dict(surroundings=where, rows=rows), indent=1))


if __name__ == '__main__':
    run(main)
