"""Detections for COCO's evaluation server, the only holder of the boxes and masks of test-dev.

The server takes a zip archive of one JSON file, both named ``detections_test-dev2017_NAME_results``. Boxes
and masks are two archives, for two of its tasks. It takes few a day and hardly explains a failure, so
everything is checked before a file gets its name.
"""

import logging
import os
import os.path as osp
import tempfile
import zipfile
from collections import Counter
from typing import Collection, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.fileio import dump, load
from mmengine.logging import print_log

from ..compat.datasets import listed_categories, listed_sizes
from ..errors import UsageError
from ..files.atomic import written_aside
from ..files.disk import check_work_dir
from .data_configs import evaluators_of
from .result_files import faults_of

_FILE = 'detections_test-dev2017_{}_results'

# COCO scores the best 100 detections of an image and ignores the others.
_SCORED_DETECTIONS = 100

# What is added to the name of the method in the file of masks, so that it is not the file of boxes.
_KINDS = {'bbox': '', 'segm': '_masks'}


@METRICS.register_module()
class CocoSubmissionMetric(CocoMetric):
    """mmdet's ``CocoMetric`` without ground truth: writes the files that COCO's server evaluates.

    Args:
        ann_file (str): The image list, ``image_info_test-dev2017.json``; it needs no annotations.
        name (str): Name of the method in the file names; the files of masks add ``_masks``.
        out_dir (str): Folder of the files; it is created if missing.
        metric (str or list[str]): ``bbox``, ``segm`` or both: the files to write.
        **kwargs: ``backend_args`` and ``collect_device`` of ``CocoMetric``.

    Raises:
        UsageError: If the name cannot be part of a file name, the folder cannot be written, or there are no
            such files.
    """

    def __init__(self, *, ann_file: str, name: str, out_dir: str = '.',
                 metric: Union[str, List[str]] = 'bbox', **kwargs) -> None:
        if not name or any(letter in '/\\' or letter.isspace() for letter in name):
            raise UsageError(f'test_evaluator.name={name!r} becomes part of a file name: use only letters, '
                             'digits, "-" and "_"', 'bad-setting')
        kinds = [metric] if isinstance(metric, str) else list(metric)
        if not kinds or not set(kinds) <= set(_KINDS):
            raise UsageError(f"test_evaluator.metric={metric!r} must be 'bbox', 'segm' or a list of both",
                             'bad-setting')
        # Fail here, before hours of inference.
        if is_main_process():
            check_work_dir(out_dir)
        super().__init__(ann_file=ann_file, metric=kinds, format_only=True,
                         outfile_prefix=osp.join(out_dir, _FILE.format(name)), **kwargs)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Take a batch. With the first one, check that the image list has all classes, and that masks exist.

        Raises:
            UsageError: If a class is missing, because its detections would have no category, or the model
                gives no masks although the metric is ``segm``.
        """
        if not self.results:
            classes = self.dataset_meta['classes']
            known = listed_categories(self)
            missing = [name for name in classes if name not in known]
            if missing:
                raise UsageError(
                    f'test_evaluator.ann_file has no category {missing[0]!r}, one of the {len(classes)} '
                    'classes of the test data; use the file of test_dataloader.dataset.ann_file',
                    'classes-mismatch')
            if 'segm' in self.metrics and not all('masks' in each['pred_instances'] for each in data_samples):
                raise UsageError("test_evaluator.metric has 'segm', but the model gives no masks: use "
                                 "metric='bbox', or a model with a mask head", 'settings-mismatch')
        super().process(data_batch, data_samples)

    def results2json(self, results: Sequence[dict], outfile_prefix: str) -> Dict[str, str]:
        """Write the checked detections and the archive; only the first worker runs this.

        Args:
            results (Sequence[dict]): ``img_id``, ``labels`` (K,), ``scores`` (K,) and ``bboxes`` (x1, y1, x2,
                y2) in pixels, has shape (K, 4), of each image; ``masks``, K in COCO's RLE, if there are any.
            outfile_prefix (str): Path of the files without ``.json`` and ``.zip``.

        Returns:
            dict[str, str]: The JSON files, under ``bbox`` and ``segm``.

        Raises:
            UsageError: If the server would refuse the detections. Earlier files then stay.
        """
        start, end = outfile_prefix.removesuffix('_results'), '_results'
        paths = {kind: f'{start}{_KINDS[kind]}{end}' for kind in self.metrics}
        counts, parent = {}, osp.dirname(outfile_prefix) or '.'
        with tempfile.TemporaryDirectory(prefix='.unfinished', dir=parent) as folder:
            written = super().results2json(results, osp.join(folder, 'detections'))
            for kind in paths:
                # Check what the file holds, not what it should hold.
                detections = load(written[kind])
                sizes = listed_sizes(self) if kind == 'segm' else None
                counts[kind] = check_detections(detections, self.img_ids, self.cat_ids, sizes=sizes)
                if kind == 'segm':
                    # With boxes, the server would take the area of the box for AP by size.
                    for each in detections:
                        del each['bbox']
                    dump(detections, written[kind])
            for kind, path in paths.items():
                with written_aside(f'{path}.zip') as aside:
                    with zipfile.ZipFile(aside, 'w', zipfile.ZIP_DEFLATED) as file:
                        file.write(written[kind], osp.basename(f'{path}.json'))
                    with written_aside(f'{path}.json') as target:
                        os.replace(written[kind], target)
        for kind, path in paths.items():
            self._report(len(results), counts[kind], (f'{path}.json', f'{path}.zip'))
        return {kind: f'{path}.json' for kind, path in paths.items()}

    def _report(self, tested, counts, paths):
        sizes = ' and '.join(f'{path} ({osp.getsize(path) / 1e6:.3f} MB)' for path in paths)
        print_log(f'COCO submission: {sum(counts.values())} detections on {len(counts)} of {tested} images, '
                  f'all of them valid, are in {sizes}', logger='current')
        if tested < len(self.img_ids):
            print_log(f'COCO submission: only {tested} of the {len(self.img_ids)} images of the list were '
                      'tested; the server counts the others as images without detections: remove indices '
                      'and filters from test_dataloader.dataset', logger='current', level=logging.WARNING)
        most = max(counts.values(), default=0)
        if most > _SCORED_DETECTIONS:
            print_log(f'COCO submission: up to {most} detections are kept for an image, but the server uses '
                      f'the best {_SCORED_DETECTIONS}; model.test_cfg.rcnn.max_per_img='
                      f'{_SCORED_DETECTIONS} makes the files smaller', logger='current')


def check_detections(detections: Sequence[Mapping], image_ids: Collection[int],
                     category_ids: Collection[int], *,
                     sizes: Optional[Mapping[int, Tuple[int, int]]] = None) -> Dict[int, int]:
    """Check that COCO's server will take the detections.

    Args:
        detections (Sequence[Mapping]): Entries of the JSON file: ``image_id``, ``category_id``, ``bbox`` (x,
            y, w, h) in pixels of the original image or ``segmentation`` in compressed RLE, and ``score``.
        image_ids (Collection[int]): Images of the list.
        category_ids (Collection[int]): COCO's ids of the classes.
        sizes (Mapping[int, tuple], optional): Height and width of the images; for masks instead of boxes.

    Returns:
        dict[int, int]: Number of detections by image, without images that have none.

    Raises:
        UsageError: With the first fault and the number of faulty detections.
    """
    counts, first, faulty = Counter(), '', 0
    for number, fault in enumerate(faults_of(detections, image_ids, category_ids, sizes=sizes)):
        image = detections[number].get('image_id')
        if fault:
            faulty += 1
            first = first or f'detection {number} (image {image}): {fault}'
        else:
            counts[image] += 1
    if faulty:
        raise UsageError(f'{faulty} of {faulty + sum(counts.values())} detections are not valid for the '
                         f'COCO server, so nothing is written; {first}', 'output-failed')
    return dict(counts)


def place_submission(cfg: Config) -> None:
    """Set defaults of a submission in a config: the work dir as folder, the config's file name as name."""
    for evaluator in evaluators_of(cfg, 'test'):
        if str(evaluator.get('type')).split('.')[-1] == CocoSubmissionMetric.__name__:
            evaluator.setdefault('out_dir', cfg.work_dir)
            evaluator.setdefault('name', osp.splitext(osp.basename(cfg.filename))[0])
