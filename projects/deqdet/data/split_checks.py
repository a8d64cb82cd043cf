"""Faults of the data that a config names, found before anything is built: files, annotations, images.

Training stops at the first error; ``tools/dataset/check.py`` reports all of them.
"""

import os
import os.path as osp
from typing import Iterator, List, Sequence

from mmengine.config import Config

from ..errors import UsageError
from .annotation_checks import annotation_findings
from .annotations import AnnotationSummary, summarise
from .data_configs import CocoSource, coco_source, is_local, joined, leaves_of, metrics_of
from .evaluation_checks import evaluation_findings, label_findings
from .findings import Finding, finding_of, first_error, some_of
from .mask_checks import mask_use, setting_findings, source_mask_findings
from .name_hints import name_hint
from .path_checks import name_findings, pickle_findings
from .used_objects import images_read

# Where to download COCO's own files, by file or folder name.
_COCO = 'http://images.cocodataset.org/'
_SOURCES = {
    'image_info_test-dev2017.json': 'annotations/image_info_test2017.zip',
    'instances_train2017.json': 'annotations/annotations_trainval2017.zip',
    'instances_val2017.json': 'annotations/annotations_trainval2017.zip',
    **{f'{split}2017': f'zips/{split}2017.zip' for split in ('train', 'val', 'test')}
}

# At most this many folders are listed to find images. With more folders, each image is looked up.
_FOLDERS = 1000


def data_findings(cfg: Config, splits: Sequence[str], *, read: bool = True, all_masks: bool = False
                  ) -> Iterator[Finding]:
    """Faults of the files that a config names, found without opening an image.

    It checks only local files, and only annotations in COCO's format.

    Args:
        cfg (Config): The whole config.
        splits (Sequence[str]): Splits that will be used: ``train``, ``val``, ``test``.
        read (bool): Read annotation files and list image folders; otherwise only check that they exist.
        all_masks (bool): Check masks also if the config does not use them.

    Yields:
        Finding: Each fault once; a dataset that two splits share is checked once.
    """
    sources, done, absent = {}, set(), set()

    def told_once(findings):
        for finding in findings:
            if finding.what not in absent:
                yield finding
            absent.add(finding.what)

    yield from setting_findings(cfg, splits)
    for split in splits:
        sources[split] = []
        yield from told_once(pickle_findings(cfg, split))
        for key, dataset in leaves_of(cfg, split):
            missing = list(_missing_files(dataset, key))
            yield from told_once(missing)
            source = None if missing or not read else coco_source(dataset, key)
            if source:
                use = mask_use(cfg, split, key, always=all_masks)
                found = [] if source.same_as in done else list(
                    source_findings(source, split == 'train', use.read))
                if (source.same_as, use) not in done and not any(each.check == 'format' for each in found):
                    found += source_mask_findings(source, use)
                yield from found
                done |= {source.same_as, (source.same_as, use)}
                if not first_error(found):
                    sources[split].append(source)
        for key, metric, _ in metrics_of(cfg, split):
            if is_local(metric):
                yield from told_once(_missing_file(metric.get('ann_file'), f'{key}.ann_file'))
    if read:
        yield from label_findings([source for split in splits for source in sources[split]])
        yield from _evaluator_findings(cfg, sources)


def _evaluator_findings(cfg, sources) -> Iterator[Finding]:
    told = set()
    for split, found in sources.items():
        for key, metric, data in metrics_of(cfg, split):
            evaluated = [source for source in found if _within(source.key, data)]
            # If a dataset is missing here, by an error or another format, the evaluator's needs are unknown.
            needed = sum(_within(leaf, data) for leaf, _ in leaves_of(cfg, split))
            if not evaluated or len(evaluated) < needed:
                continue
            # val and test are often the same set.
            same = (*(source.same_as for source in evaluated), repr(metric))
            if same not in told:
                yield from evaluation_findings(
                    metric, evaluated, key=key, trained=(sources.get('train') or evaluated)[0])
            told.add(same)


def _within(key, outer) -> bool:
    return key == outer or key.startswith(f'{outer}.')


def source_findings(source: CocoSource, training: bool, masks: bool) -> Iterator[Finding]:
    """Faults of the annotation file of a dataset except for masks, and missing images, each once."""
    try:
        # Read with the masks if they are checked later: once, not twice.
        summary = summarise(source.path, masks=masks)
    except UsageError as error:
        yield Finding('format', 'error', source.key, error.message, count=1)
        return
    names = list(name_findings(source, summary))
    yield from names
    yield from annotation_findings(
        summary, source.classes, where=source.where, training=training, stock=source.stock)
    if not names:
        yield from missing_images(source, summary)


def missing_images(source: CocoSource, summary: AnnotationSummary) -> Iterator[Finding]:
    """Images that the dataset will read but that do not exist."""
    folder = source.image_folder
    if '://' in folder:
        return
    names = [summary.table.file_names[row] for row in images_read(source, summary)]
    paths = [osp.join(folder, name) for name in names]
    missing = [path for path, there in zip(paths, files_exist(paths)) if not there]
    if missing:
        yield missing_finding(missing, len(paths), source.where, allowed=may_be_missing(source.dataset),
                              folder=folder)


def missing_finding(missing: Sequence[str], total: int, where: str, *, allowed: bool,
                    folder: str = '') -> Finding:
    """The finding of missing image files.

    Args:
        missing (Sequence[str]): Their paths.
        total (int): Number of images that were looked up.
        where (str): Names dataset and file.
        allowed (bool): Whether the pipeline skips missing images.
        folder (str): The image folder, at the start of the paths. If given, other names are tried.
    """
    hint = _other_ending(missing[0])
    if folder and not hint:
        begin = osp.join(folder, '')
        hint = name_hint(folder, [path[len(begin):] if path.startswith(begin) else path for path in missing])
    hint = f'; {hint}' if hint else ''
    return finding_of(
        missing, 'missing-images', 'warning' if allowed else 'error', where,
        f'of {total} images do not exist', 'add them, correct data_prefix and file_name, or remove them from '
        'the file', so=f'; searched from {osp.abspath("")}{hint}')


def _other_ending(path) -> str:
    folder, name = osp.split(path)
    stem, ending = osp.splitext(name)
    if ending != ending.strip() or not osp.isdir(folder):
        return ''
    others = [each for each in os.listdir(folder) if osp.splitext(each)[0] == stem]
    return f'{others[0]} exists instead of {name}' if others else ''


def files_exist(paths: Sequence[str]) -> List[bool]:
    """Whether each file exists. Listing a few folders is faster than a look-up of each of many files."""
    folders = {osp.dirname(path) for path in paths}
    if len(folders) > min(_FOLDERS, len(paths)):
        return [osp.isfile(path) for path in paths]
    listed = {folder: set(os.listdir(folder or '.')) if osp.isdir(folder or '.') else set()
              for folder in folders}
    return [osp.basename(path) in listed[osp.dirname(path)] for path in paths]


def may_be_missing(dataset: dict) -> bool:
    """Whether the pipeline of a dataset's config skips images that cannot be read."""
    return any(isinstance(step, dict) and step.get('ignore_empty') for step in dataset.get('pipeline') or [])


def _missing_files(dataset, key) -> Iterator[Finding]:
    """Missing annotation files and image folders of a dataset on a local disk."""
    if not is_local(dataset):
        return
    ann_file = dataset.get('ann_file')
    if isinstance(ann_file, str) and ann_file:
        yield from _missing_file(joined(dataset, ann_file), f'{key}.ann_file')
    for name, prefix in (dataset.get('data_prefix') or {}).items():
        path = joined(dataset, prefix) if isinstance(prefix, str) else ''
        if prefix and path and '://' not in path and not osp.isdir(path):
            yield Finding(
                'missing-files', 'error', f'{key}.data_prefix.{name}',
                f'folder {path} does not exist (searched from {osp.abspath("")})', count=1,
                fix=f'put the images there{_source(prefix)}, or set {key}.data_root')


def _missing_file(path, key) -> Iterator[Finding]:
    if isinstance(path, str) and path and '://' not in path and not osp.isfile(path):
        yield Finding('missing-files', 'error', key,
                      f'{path} does not exist (searched from {osp.abspath("")})',
                      f'add it{_source(path)}, or use --cfg-options {key}=FILE', 1)


def _source(path) -> str:
    """Where to download a file or folder of COCO; empty for others."""
    archive = _SOURCES.get(osp.basename(path.rstrip('/')))
    return f" (COCO's is in {_COCO}{archive})" if archive else ''


def suspicions(findings: Sequence[Finding]) -> str:
    """Names of the checks with warnings, in words; empty if there are none."""
    return some_of(list(dict.fromkeys(each.check for each in findings if each.grade == 'warning')))
