"""Compare ONNX files of a detector with the detector itself on the test data: metrics and time."""

import time
from functools import partial
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmengine.utils import track_iter_progress

from ... import export
from ...analysis import Contest, show_results
from ...data.checks import check_files
from ...data.evaluated_images import limit_evaluator
from ...launching.command_line import Parser, add_config_options, add_trust_option, run


def _parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', help='local .pth or .safetensors file')
    parser.add_argument('files', nargs='+', metavar='FILE', help='NAME.onnx of tools/export.py')
    parser.add_argument('--out', type=Path, help='folder for the table (default: analysis in the work dir)')
    parser.add_argument('--threads', type=int, help='threads of an operator (default: those of torch)')
    add_config_options(parser)
    add_trust_option(parser)
    return parser.parse_args()


def main() -> None:
    args = _parse_args()
    export.require_packages(('onnxruntime', ))
    detector, _ = export.load_detector(args)
    check_files(detector.cfg, ('test', ))
    if args.threads:
        torch.set_num_threads(args.threads)
    steps = detector.model.roi_head.prediction.steps
    runs = {'PyTorch': partial(export.predict, detector.model, steps=steps)}
    for path in args.files:
        runs[Path(path).name] = partial(export.run_file, export.open_file(path), steps=steps,
                                        divisor=export.size_divisor(detector.model))
    rows = _compare(runs, detector.cfg)
    work_dir = Path(detector.cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}')
    out = args.out or work_dir / 'analysis'
    print(f'\n{torch.get_num_threads()} threads; times are the median over batches, from pixels to boxes')
    show_results(out / 'exported', rows)


def _compare(runs, cfg):
    """Metrics and times of all, alternating batch by batch."""
    dataloader = Runner.build_dataloader(cfg.test_dataloader)
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = dataloader.dataset.metainfo
    limit_evaluator(evaluator, dataloader)
    contest = Contest(evaluator)
    # CPU time of a single thread does not depend on other programs.
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for data in track_iter_progress((dataloader, len(dataloader))):
        images = [mmcv.bgr2rgb(image.permute(1, 2, 0).numpy()) for image in data['inputs']]
        for name, detect in runs.items():
            begin = now()
            found = detect(images)
            spent = now() - begin
            contest.process(name, data['data_samples'], [
                _in_original(boxes, scores, labels, sample)
                for (boxes, scores, labels), sample in zip(found, data['data_samples'])], spent)
    return [{'run': name, **contest.evaluate(name, len(dataloader.dataset)),
             'ms an image': contest.milliseconds(name)} for name in runs]


def _in_original(boxes, scores, labels, sample):
    """Detections in pixels of the original image."""
    scale = np.tile(np.array(sample.metainfo.get('scale_factor', (1, 1))[:2], dtype=np.float32), 2)
    return InstanceData(bboxes=torch.from_numpy(boxes / scale), scores=torch.from_numpy(scores),
                        labels=torch.from_numpy(labels))


if __name__ == '__main__':
    run(main)
