"""Time and peak memory of one training step (losses and backward pass) by form of the training graph.

Times are taken in one process, the forms in turn, so that they share the machine's moods; the peak
memory of each form in a process of its own. Random images and boxes, random weights, no optimiser.
"""

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'projects')]

# The plugin comes before anything of mmdet, which it makes importable where mmcv has no operators.
import deqdet  # noqa: E402, F401  isort: skip
import torch  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

FORMS = {
    'plain graph, grid': dict(grad_accumulation=False, sampling='grid'),
    'plain graph, rows': dict(grad_accumulation=False, sampling='rows'),
    'lean graph, grid': dict(grad_accumulation=True, sampling='grid'),
    'lean graph, rows': dict(grad_accumulation=True, sampling='rows'),
    'lean graph, rows, 2 positions a batch': dict(
        grad_accumulation=True, sampling='rows', positions_per_batch=2),
    'lean graph, rows, 6 positions a batch': dict(
        grad_accumulation=True, sampling='rows', positions_per_batch=6),
}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='path of the config file, with a DEQDetRoIHead')
    parser.add_argument('--shape', type=int, nargs=2, default=(800, 1344), metavar=('H', 'W'),
                        help='size of the images in pixels (default: 800 1344)')
    parser.add_argument('--images', type=int, default=1, help='images in the batch (default: 1)')
    parser.add_argument('--objects', type=int, default=8, help='objects an image (default: 8)')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch (default: 2)')
    parser.add_argument('--repeats', type=int, default=3, help='timed steps a form (default: 3)')
    parser.add_argument('--forms', nargs='+', choices=FORMS, default=list(FORMS), metavar='FORM',
                        help=f'forms to compare (default: all of {", ".join(map(repr, FORMS))})')
    parser.add_argument('--positions', type=int, nargs='+', help='supervision positions (default: those of '
                        'the config)')
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--out', help='JSON file for the results')
    parser.add_argument('--memory-only', action='store_true', help='one step of the one form given: prints '
                        'its peak memory in GB')
    return parser.parse_args()


def build(args, form):
    """The model in training mode, with one of the forms."""
    cfg = Config.fromfile(args.config).model
    cfg.backbone.init_cfg = None
    if args.positions:
        cfg.roi_head.supervision_position = args.positions
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    choose(model, form)
    return model.to(args.device).train()


def choose(model, form):
    """Switch a model to a form."""
    model.roi_head.positions_per_batch = 1
    for name, value in FORMS[form].items():
        setattr(model.roi_head, name, value)


def random_batch(args, model):
    """Images, and objects of 50 to 200 px in them."""
    height, width = args.shape
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(args.images):
        sample = DetDataSample(metainfo=dict(
            img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0),
            batch_input_shape=(height, width)))
        corner = torch.rand(args.objects, 2, generator=generator) * (min(args.shape) - 200)
        size = 50 + 150 * torch.rand(args.objects, 2, generator=generator)
        classes = model.roi_head.bbox_head[-1].num_classes
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + size], 1).to(args.device),
            labels=torch.randint(classes, (args.objects, ), generator=generator).to(args.device))
        samples.append(sample)
    images = torch.randn(args.images, 3, height, width, generator=generator)
    return images.to(args.device), samples


def step(model, batch, device):
    """Seconds of forward and backward pass."""
    model.zero_grad()
    torch.manual_seed(0)
    marks = [time.perf_counter()]
    losses = model.loss(*batch)
    synchronise(device)
    marks.append(time.perf_counter())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    synchronise(device)
    marks.append(time.perf_counter())
    return marks[1] - marks[0], marks[2] - marks[1]


def synchronise(device):
    """Wait for the GPU, if there is one at work."""
    if device.startswith('cuda'):
        torch.cuda.synchronize()


def peak_memory(args):
    """GB, of this process on a CPU, of tensors on a GPU."""
    model = build(args, args.forms[0])
    step(model, random_batch(args, model), args.device)
    if args.device.startswith('cuda'):
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path('/proc/self/status')
    if status.exists():
        # ru_maxrss begins with that of the parent process.
        return int(re.search(r'VmHWM:\s+(\d+) kB', status.read_text())[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def peak_memory_of(args, form):
    """The same, in a process of its own."""
    command = [sys.executable, __file__, args.config, '--memory-only', '--forms', form, '--shape',
               *map(str, args.shape), '--images', str(args.images), '--objects', str(args.objects),
               '--threads', str(args.threads), '--device', args.device]
    if args.positions:
        command += ['--positions', *map(str, args.positions)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def main():
    args = parse_args()
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='WARNING')  # not where each weight comes from
    torch.set_num_threads(args.threads)
    if args.memory_only:
        print(peak_memory(args))
        return
    model = build(args, args.forms[0])
    batch = random_batch(args, model)
    step(model, batch, args.device)  # warm
    times = {form: [] for form in args.forms}
    for repeat in range(args.repeats):
        for form in args.forms:
            choose(model, form)
            times[form].append(step(model, batch, args.device))
            print(f'round {repeat + 1}: {form}: {sum(times[form][-1]):.2f} s', file=sys.stderr, flush=True)
    del model, batch
    rows = []
    for form in args.forms:
        forward, backward = (statistics.median(part) for part in zip(*times[form]))
        total = statistics.median(map(sum, times[form]))
        rows.append(dict(form=form, forward_s=forward, backward_s=backward, total_s=total,
                         peak_gb=peak_memory_of(args, form)))
    print('| form | forward s | backward s | total s | ratio to the first | peak GB |\n|---|---|---|---|---|---|')
    for row in rows:
        print(f'| {row["form"]} | {row["forward_s"]:.2f} | {row["backward_s"]:.2f} | {row["total_s"]:.2f} | '
              f'{row["total_s"] / rows[0]["total_s"]:.2f} | {row["peak_gb"]:.2f} |')
    if args.out:
        Path(args.out).write_text(json.dumps(rows, indent=1))


if __name__ == '__main__':
    main()
