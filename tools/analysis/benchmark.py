"""Time of each part of a detector, or of a training step, and peak memory, in the released form and others.

The reference is the form of the released models: one `grid_sample` a level, every result in memory of its
own, class branch at every step, float32. The forms take turns in one process; the peak memory of each is
that of a process of its own. Without a checkpoint weights, images and boxes are random, which
changes no time but that of a tolerance.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'projects'))
import deqdet_path

deqdet_path.installed_first(__file__)  # before all other imports

import argparse  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
from copy import deepcopy  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Dict  # noqa: E402

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
from deqdet.checkpoints.check import check_checkpoint_file  # noqa: E402  isort: skip
from deqdet.commands.common import add_common_arguments, load_config, run  # noqa: E402  isort: skip
import torch  # noqa: E402
from deqdet.analysis import (  # noqa: E402
    Stopwatch,
    parse_numbers,
    peak_memory,
    surroundings,
    take_turns,
    use_reference_form,
    write_figure,
    write_table,
)
from deqdet.checkpoints.fit import fit_weights  # noqa: E402
from deqdet.errors import UsageError  # noqa: E402
from deqdet.inference.loading import read_weights  # noqa: E402
from deqdet.model.heads.compiled import Compiler  # noqa: E402
from deqdet.model.heads.solving import build_tolerance  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from mmdet.registry import DATASETS, MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.runner import load_state_dict  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

#: What each form sets in ``test_cfg.rcnn``.
PREDICTION: Dict[str, Dict[str, Any]] = {
    'reference': {},
    'float32': {},
    'bfloat16': dict(solve_dtype='bfloat16'),
    'float16': dict(solve_dtype='float16'),
}
#: And in ``roi_head``.
TRAINING: Dict[str, Dict[str, Any]] = {
    'reference': {},
    'plain graph': dict(grad_accumulation=False),
    'default': {},
    'default, bfloat16 path': dict(solve_dtype='bfloat16'),
}
DECODER = ('prepare', 'initialise', 'solve', 'last refinement', 'select')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of the config file, with a DEQDetRoIHead')
    parser.add_argument('checkpoint', nargs='?', help='weights (default: random ones)')
    parser.add_argument('--training', action='store_true', help='a training step instead of a prediction')
    parser.add_argument('--forms', nargs='+', metavar='FORM',
                        help='forms to compare; ratios refer to the first. '
                        f'Of {", ".join(PREDICTION)}, with --training of {", ".join(map(repr, TRAINING))} '
                        '(default: all but float16)')
    parser.add_argument('--tolerance', nargs='+', metavar='PART=LIMIT', help='each form but the reference '
                        'once more, stopped by these limits: content=0.2 position=0.5')
    parser.add_argument('--shape', type=int, nargs=2, action='append', metavar=('H', 'W'), help='size of the '
                        'images in pixels, may be given several times (default: 800 1344)')
    parser.add_argument('--data', type=int, metavar='N', help='the first N images of the test data, in '
                        'batches of --images, in place of random ones')
    parser.add_argument('--queries', type=int, nargs='+', help='numbers of queries (default: the config\'s)')
    parser.add_argument('--steps', type=int, help='refinement_steps (default: the config\'s)')
    parser.add_argument('--images', type=int, default=1, help='images in the batch (default: 1)')
    parser.add_argument('--objects', type=int, default=8, help='objects an image, in training (default: 8)')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch (default: 2)')
    parser.add_argument('--rounds', type=int, default=5, help='timed rounds (default: 5)')
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--compile', action='store_true', help='each form but the reference with a compiled '
                        'refinement')
    parser.add_argument('--no-memory', action='store_true', help='leave the peak memory out')
    parser.add_argument('--out', type=Path,
                        help='folder for benchmark.{csv,md,png,json} (default: analysis in the work dir)')
    parser.add_argument('--work-dir', help='default: ./work_dirs/CONFIG')
    parser.add_argument('--memory-of', metavar='FORM', help=argparse.SUPPRESS)  # for our own processes
    add_common_arguments(parser)
    args = parser.parse_args()
    known = TRAINING if args.training else PREDICTION
    args.forms = args.forms or [form for form in known if form != 'float16']
    unknown = [form for form in args.forms if form not in known]
    if unknown:
        raise UsageError(f'--forms {unknown[0]!r}: must be of {", ".join(map(repr, known))}')
    if args.training and (args.tolerance or args.data):
        parser.error('--tolerance and --data are for predictions')
    args.shape = args.shape or [[800, 1344]]
    if args.data:
        args.shape = [None]
    elif min(map(min, args.shape)) < 32:
        parser.error('--shape: at least 32 pixels each')
    return args


def build(args, queries):
    """The detector of the config, with random weights or those of the checkpoint."""
    cfg = load_config(args)
    if args.checkpoint:
        check_checkpoint_file(args.checkpoint)
    if cfg.model.get('roi_head', {}).get('type') != 'DEQDetRoIHead':
        raise UsageError(f'config {args.config}: its decoder is no DEQDetRoIHead')
    cfg.model.backbone.init_cfg = None
    if queries:
        cfg.model.rpn_head.num_proposals = queries
    if args.steps is not None:
        cfg.model.roi_head.refinement_steps = args.steps
        cfg.model.test_cfg.rcnn.pop('refinement_steps', None)
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='WARNING')  # not where each weight comes from
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    if args.checkpoint:
        weights = read_weights(args.checkpoint, trust=args.trust_checkpoint)['state_dict']
        load_state_dict(model, fit_weights(weights, model)[0])
    return cfg, model.to(args.device).train(args.training)


def in_form(args, model, form, tolerance=None):
    """A detector in one of the forms, with the parameters of this one."""
    memo = {id(parameter): parameter for parameter in model.parameters()}
    model = deepcopy(model, memo)
    if form == 'reference':
        return use_reference_form(model)
    if args.compile:
        model.roi_head.compiler = Compiler()
    if args.training:
        for name, value in TRAINING[form].items():
            setattr(model.roi_head, name, value)
        return model
    changes = {'solve_dtype': None, **PREDICTION[form], 'tolerance': tolerance}
    model.roi_head.prediction = model.roi_head.prediction_with(**changes)
    return model


def random_batch(args, model, shape):
    """Images, and objects of up to a quarter of the image in them."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(args.images):
        sample = DetDataSample(metainfo=dict(
            img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), batch_input_shape=shape))
        corner = torch.rand(args.objects, 2, generator=generator) * min(shape) * 0.75
        size = (0.05 + 0.2 * torch.rand(args.objects, 2, generator=generator)) * min(shape)
        classes = model.roi_head.bbox_head[-1].num_classes
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + size], 1),
            labels=torch.randint(classes, (args.objects, ), generator=generator))
        samples.append(sample)
    images = torch.randint(256, (args.images, 3, *shape), generator=generator, dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=samples)


def batches(args, cfg, model, shape):
    """What a form is run on in one round."""
    if not args.data:
        return [random_batch(args, model, tuple(shape))]
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    count = min(args.data, len(dataset))
    return [pseudo_collate([dataset[index] for index in range(first, min(first + args.images, count))])
            for first in range(0, count, args.images)]


@torch.no_grad()
def predict(args, model, data):
    """Seconds by part of a prediction of all batches."""
    watch, head = Stopwatch(args.device), model.roi_head
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
            for logits, box, sample in zip(state.logits, state.box, samples):
                head.select(logits, box, sample.metainfo, True)
    return {part: seconds / len(data) for part, seconds in watch.seconds.items()}


def train(args, model, data):
    """Seconds of losses and backward pass of all batches."""
    watch = Stopwatch(args.device)
    for batch in data:
        model.zero_grad()
        torch.manual_seed(0)  # the same coins for all forms
        batch = model.data_preprocessor(deepcopy(batch), True)
        with watch.part('losses'):
            losses = model.loss(batch['inputs'], batch['data_samples'])
        with watch.part('backward pass'):
            sum(value for key, value in losses.items() if 'loss' in key).backward()
    return watch.seconds


def forms_of(args, model):
    """The detector in every form that is measured, by name."""
    found = {form: in_form(args, model, form) for form in args.forms}
    if args.tolerance:
        limits = parse_numbers(args.tolerance, name='--tolerance')
        build_tolerance(limits, name='--tolerance')
        found.update({f'{form}, tolerance': in_form(args, model, form, limits)
                      for form in args.forms if form != 'reference'})
    return found


def memory_of(args, form, queries, shape):
    """Peak memory in GB of a process that does nothing but run one form once."""
    words = [word for word in sys.argv[1:] if word != '--no-memory']
    words += ['--memory-of', form, '--rounds', '1']
    words += ['--queries', str(queries)] if queries else []
    # Of several shapes the process takes the last.
    words += ['--shape', *map(str, shape)] if shape else []
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UsageError(f'the process that measures the memory of {form!r} ended with status '
                         f'{done.returncode}')
    return float(done.stdout.split()[-1])


def measure(args, queries, shape):
    """Rows of the table for a number of queries and a size."""
    cfg, model = build(args, queries)
    run = train if args.training else predict
    data, forms = batches(args, cfg, model, shape), forms_of(args, model)
    if args.memory_of:
        run(args, forms[args.memory_of], data)
        print(peak_memory(args.device))
        return []
    medians = take_turns({name: partial(run, args, form, data) for name, form in forms.items()}, args.rounds)
    rows = []
    for name, seconds in medians.items():
        row = {'form': name, 'queries': model.rpn_head.num_proposals,
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
            row['peak GB'] = memory_of(args, name, queries, shape)
        rows.append(row)
    return rows


def draw(rows):
    """Time by queries and by size, a line for each form."""
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


def main():
    args = parse_args()
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise UsageError('--device cuda: no GPU is there')
    torch.set_num_threads(args.threads)
    if args.memory_of:
        measure(args, args.queries[-1] if args.queries else None, args.shape[-1])
        return
    rows = [row for shape in args.shape for queries in args.queries or [None]
            for row in measure(args, queries, shape)]
    out = args.out or Path(load_config(args).work_dir) / 'analysis'
    where = surroundings(args.device)
    print('\n' + ', '.join(f'{key} {value}' for key, value in where.items()) + '\n')
    print(write_table(out / 'benchmark', rows))
    write_figure(out / 'benchmark', draw(rows))
    (out / 'benchmark.json').write_text(json.dumps(dict(surroundings=where, rows=rows), indent=1))
    print(f'written: {out}/benchmark.csv, .md, .png and .json')


if __name__ == '__main__':
    run(main)
