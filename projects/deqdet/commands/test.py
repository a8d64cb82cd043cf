"""Test (and evaluate) a detector, with the options of mmdetection's tools/test.py."""

from copy import deepcopy

from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import ConfigDict

from ..data.checks import check_files
from ..data.data_configs import pipelines_of
from ..data.submission import place_submission
from ..launching.command_line import Parser, add_common_arguments, run
from ..launching.workers import leave
from ..training.resume import check_start
from ..training.running import load_config, runner_of


def _parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--work-dir', help='folder for the file with the metrics')
    parser.add_argument('--out', help='pickle file (.pkl) for the predictions')
    parser.add_argument('--show', action='store_true', help='show the predictions')
    parser.add_argument(
        '--show-dir',
        help='folder for images with boxes, inside the time-stamped folder of the work dir')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds between images of --show')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_common_arguments(parser)
    args = parser.parse_args()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: the name must end in .pkl or .pickle')
    return args


def _use_tta(cfg):
    """Use the config's test-time augmentation, or else the image and its mirror image."""
    if 'tta_model' not in cfg:
        cfg.tta_model = dict(
            type='DetTTAModel',
            tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
    own = cfg.get('tta_pipeline')
    # Read all pipelines before replacing any, since datasets may share one list of steps.
    pipelines = [own or _with_flips(dataset.pipeline) for _, dataset in pipelines_of(cfg, 'test')]
    for (_, dataset), pipeline in zip(pipelines_of(cfg, 'test'), pipelines):
        dataset.pipeline = pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def _with_flips(pipeline):
    """A test pipeline that gives the image and its mirror image."""
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
    flips = [dict(type='RandomFlip', prob=1.), dict(type='RandomFlip', prob=0.)]
    return [*deepcopy(pipeline[:-1]), dict(
        type='TestTimeAug', transforms=[flips, [dict(type='PackDetInputs', meta_keys=keys)]])]


def main() -> None:
    args = _parse_args()
    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    # With resume, the runner would build the training data set and look for its state.
    cfg.resume = False
    place_submission(cfg)
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)
    check_start(cfg)
    check_files(cfg, ('test', ))
    if args.tta:
        _use_tta(cfg)
    with runner_of(cfg, verbose=args.verbose) as runner:
        if args.out is not None:
            runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
        runner.test()


if __name__ == '__main__':
    run(main)
    leave()
