"""The whole examination: config, annotation files, images and samples."""

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np
from mmdet.registry import MODELS
from mmengine.config import Config

from ...compat.datasets import image_ids
from ...errors import UsageError
from ..checks import check_num_classes
from ..data_configs import coco_source, leaves_of, metrics_of
from ..findings import GRADES, Finding, first_error
from ..path_checks import CLOSED
from ..split_checks import data_findings
from .figures import objects_per_class
from .image_checks import copy_findings, image_findings
from .object_checks import object_findings, queries_of, unused_categories
from .samples import Sample, draw_samples
from .scan import scan
from .sources import Source, read_sources

# Evaluators without ground truth.
_WRITERS = ('CocoSubmissionMetric', 'DumpDetResults', 'DumpProposals')


@dataclass
class Examination:
    """What was found.

    Attributes:
        findings (list[Finding]): Errors first, then warnings, then notes.
        splits (dict[str, list[Source]]): Datasets by split, without those that could not be built.
        samples (list[Sample]): Training samples.
        queries (int, optional): Number of queries of the model.
        images_read (int): Number of image files that were opened.
    """

    findings: List[Finding] = field(default_factory=list)
    splits: Dict[str, List[Source]] = field(default_factory=dict)
    samples: List[Sample] = field(default_factory=list)
    queries: Optional[int] = None
    images_read: int = 0

    def of_grade(self, grade: str) -> List[Finding]:
        """Findings of one grade, see ``GRADES``."""
        return [finding for finding in self.findings if finding.grade == grade]

    def status(self, *, strict: bool = False) -> int:
        """Exit status: 1 if there are errors, or if there are warnings and ``strict`` is set; else 0."""
        return int(bool(self.of_grade('error') or strict and self.of_grade('warning')))

    def counts(self) -> Dict[str, dict]:
        """Numbers for each split: images, objects, crowds, and objects by class."""
        return {split: dict(
            datasets=[source.where for source in sources],
            images=sum(len(source.paths) for source in sources),
            images_without_objects=int(sum((source.objects_per_image == 0).sum() for source in sources)),
            objects=int(sum((~source.crowd).sum() for source in sources)),
            crowds=int(sum(source.crowd.sum() for source in sources)),
            most_objects_in_an_image=int(max(
                (source.objects_per_image.max(initial=0) for source in sources), default=0)),
            objects_per_class=objects_per_class(sources)) for split, sources in self.splits.items()}


def examine(cfg: Config, splits: Sequence[str] = ('train', 'val', 'test'), *, read_images: bool = True,
            limit: Optional[int] = None, workers: int = 1, samples: int = 12, seed: int = 0,
            report: Callable[[str], None] = lambda line: None) -> Examination:
    """Examine the data of a config as training and testing will read them.

    Args:
        cfg (Config): The whole config.
        splits (Sequence[str]): Splits to examine. Splits that the config lacks are ignored.
        read_images (bool): Open the images. If False, it does not look for damaged images, wrong sizes,
            copies and leakage, and draws no samples.
        limit (int, optional): Open at most this many images of each dataset, spread over it.
        workers (int): Threads that read images.
        samples (int): Number of training samples to draw.
        seed (int): Seed of the samples.
        report (Callable): Gets lines of progress.

    Returns:
        Examination: What was found.
    """
    report('reading annotations')
    found = list(data_findings(cfg, splits, all_masks=True))
    closed = next((each for each in found if each.check in CLOSED), None)
    if closed:
        found.append(Finding('left-out', 'note', closed.where, 'no dataset was built and no image opened, '
                             'because the data of this file may be unsafe; fix this first'))
        splits = ()
    sources, built, unbuilt = read_sources(cfg, splits)
    for each in unbuilt:
        if each.grade != 'error' or not _explained(each, found):
            found.append(each)
            continue
        # The dataset cannot be built because of a fault that was found in its file or folder.
        found.append(Finding('left-out', 'note', each.where, 'mmdet cannot read this dataset, so its '
                             'objects, images and copies were not checked: fix the error and check again'))
    result = Examination(queries=queries_of(cfg))
    result.splits = {split: [source for source in sources if split in source.splits]
                     for split in splits if any(split in source.splits for source in sources)}
    paths = {coco.key: coco.path for split in splits for coco in (
        coco_source(dataset, key) for key, dataset in leaves_of(cfg, split)) if coco}
    for source in sources:
        found += object_findings(source, result.queries, needed=_needs_objects(cfg, source))
        if source.coco and not any(_about(source, each, 'class-names') for each in found):
            found += unused_categories(source, paths[source.key])
    found += _tested_twice(cfg, built)
    if not first_error(found):
        found += _head_findings(cfg, sources)
    if read_images:
        found += _read_images(sources, found, limit, workers, report, result)
        if 'train' in built and samples and len(built['train']):
            report(f'drawing {samples} training samples')
            result.samples, failed = draw_samples(
                built['train'], samples, seed, where='train_dataloader.dataset')
            # Invalid boxes are the cause of samples without boxes, and unreadable images are the cause of
            # failures. If such a cause was found, its effect is not reported again.
            why = ('missing-images', 'unreadable-images')
            found += [each for each in failed if not any(
                other.check in why or each.grade == 'warning' and other.grade == 'error' for other in found)]
    result.findings = sorted(found, key=lambda finding: GRADES.index(finding.grade))
    return result


def _read_images(sources, found, limit, workers, report, result) -> List[Finding]:
    chosen = {}
    for source in sources:
        paths = list(dict.fromkeys(source.paths))
        if limit is not None and len(paths) > limit:
            paths = [paths[number] for number in np.linspace(0, len(paths) - 1, limit).astype(int)]
            found.append(Finding(
                'left-out', 'note', source.where, f'{limit} of {len(source.paths)} images were opened: '
                'copies and leakage were checked only among these'))
        chosen.update(dict.fromkeys(paths, source.loading))
    report(f'reading {len(chosen)} images')
    files = scan(chosen.items(), workers=workers, report=report)
    result.images_read = len(files)
    findings = []
    for source in sources:
        findings += image_findings(source, files, missing_told=any(
            _about(source, each, 'missing-images') for each in found))
    return findings + list(copy_findings(sources, files))


def _head_findings(cfg, sources) -> List[Finding]:
    """Compare the heads of the model with the classes of each dataset."""
    if 'model' not in cfg or not sources:
        return []
    try:
        model = MODELS.build(cfg.model)
    except Exception as error:  # the model has its own checks, and its tools report errors
        return [Finding('left-out', 'note', 'model', f'it cannot be built ({type(error).__name__}: '
                        f'{getattr(error, "message", error)}), so its number of classes was not compared')]
    found = []
    for source in sources:
        try:
            if source.classes:
                check_num_classes(model, source.classes, where=f'{source.splits[0]} dataset')
        except UsageError as error:
            found.append(Finding('num-classes', 'error', source.where, error.message, count=1))
            break
    return found


def _tested_twice(cfg, built) -> List[Finding]:
    """Evaluation sets that give an image more than once to a metric that counts by image id."""
    found = []
    for split, dataset in built.items():
        key = f'{split}_dataloader.dataset'
        by_id = any(str(metric.get('type')).split('.')[-1] == 'CocoMetric' and data == key
                    for _, metric, data in metrics_of(cfg, split))
        ids = (image_ids(dataset) if by_id and split != 'train' else None) or []
        twice = len(ids) - len(set(ids))
        if twice:
            found.append(Finding(
                'tested-twice', 'error', key, f'{twice} of {len(ids)} image ids occur more than once, so '
                'CocoMetric would count their detections twice', 'remove RepeatDataset, or give each dataset '
                'its own metric in a MultiDatasetsEvaluator', twice))
    return found


def _needs_objects(cfg, source) -> bool:
    """Whether a dataset is used for training or by an evaluator with ground truth."""
    return any(split == 'train' or any(
        not metric.get('format_only') and str(metric.get('type')).split('.')[-1] not in _WRITERS
        for _, metric, _ in metrics_of(cfg, split)) for split in source.splits)


def _explained(unbuilt, found) -> bool:
    return any(each.grade == 'error' and each.where.startswith(unbuilt.where) for each in found)


def _about(source, finding, check) -> bool:
    return finding.check == check and finding.where == source.where
