"""Compare ONNX files of a detector with the detector itself on the test data: metrics and time."""

import time
from functools import partial
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

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
from ...data.data_configs import evaluators_of
from ...data.evaluated_images import limit_evaluator
from ...errors import UsageError
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
    detector, _ = export.load_detector(args, masks=False)
    check_files(detector.cfg, ('test', ))
    if args.threads:
        torch.set_num_threads(args.threads)
    files = {path: export.open_file(path) for path in args.files}
    masks = _masks_of_all(files, detector.cfg)
    steps = detector.model.roi_head.prediction.steps
    runs = {'PyTorch': Run(partial(export.predict, detector.model, steps=steps, masks=masks))}
    for path, session in files.items():
        runs[Path(path).name] = Run(partial(export.run_file, session, steps=steps,
                                            divisor=export.size_divisor(detector.model)),
                                    export.fixed_shape(session))
    rows = _compare(runs, detector, masks)
    work_dir = Path(detector.cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}')
    out = args.out or work_dir / 'analysis'
    print(f'\n{torch.get_num_threads()} threads; times are the median over batches, from pixels to boxes')
    show_results(out / 'exported', rows)


class Run(NamedTuple):
    """A way to detect objects.

    Attributes:
        detect (Callable): From images to boxes, scores, labels and, maybe, maps of masks.
        shape (tuple[int, int], optional): Height and width of its input, if fixed.
    """

    detect: Callable[[Sequence[np.ndarray]], List[Tuple]]
    shape: Optional[Tuple[int, int]] = None


def _masks_of_all(files, cfg):
    """Whether all files have masks. Without them, masks cannot be evaluated."""
    without = [path for path, session in files.items() if export.MASKS not in export.outputs_of(session)]
    metrics = [metric for entry in evaluators_of(cfg, 'test')
               for metric in np.atleast_1d(entry.get('metric', ''))]
    if without and 'segm' in metrics:
        raise UsageError(f'{without[0]} has no masks, but test_evaluator.metric has segm: add --cfg-options '
                         'test_evaluator.metric=bbox', 'settings-mismatch')
    return not without


def _compare(runs, detector, masks):
    """Metrics and times of all, alternating batch by batch."""
    cfg, model = detector.cfg, detector.model
    paste = partial(export.paste, export.kind_of(model.roi_head.mask_head[-1]),
                    threshold=model.roi_head.prediction.mask_thr_binary) if masks else None
    dataloader = Runner.build_dataloader(cfg.test_dataloader)
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = dataloader.dataset.metainfo
    limit_evaluator(evaluator, dataloader)
    contest = Contest(evaluator)
    # CPU time of a single thread does not depend on other programs.
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for data in track_iter_progress((dataloader, len(dataloader))):
        images = [mmcv.bgr2rgb(image.permute(1, 2, 0).numpy()) for image in data['inputs']]
        for name, way in runs.items():
            begin = now()
            found = way.detect(images)
            spent = now() - begin
            padded = way.shape or export.padded_shape(images, export.size_divisor(model))
            contest.process(name, data['data_samples'], [
                _in_original(each, sample, paste and partial(paste, padded=padded))
                for each, sample in zip(found, data['data_samples'])], spent)
    return [{'run': name, **contest.evaluate(name, len(dataloader.dataset)),
             'ms an image': contest.milliseconds(name)} for name in runs]


def _in_original(found, sample, paste):
    """Detections in pixels of the original image."""
    boxes, scores, labels = found[:3]
    scale = np.tile(np.array(sample.metainfo.get('scale_factor', (1, 1))[:2], dtype=np.float32), 2)
    instances = InstanceData(bboxes=torch.from_numpy(boxes / scale), scores=torch.from_numpy(scores),
                             labels=torch.from_numpy(labels))
    if paste:
        instances.masks = torch.from_numpy(
            paste(found[3], boxes / scale, size=sample.img_shape[:2], shape=sample.ori_shape[:2]))
    return instances


if __name__ == '__main__':
    run(main)
