"""Faults that need the images: damaged files, wrong sizes, copies, leakage between splits."""

import os.path as osp
from collections import defaultdict
from typing import Dict, Iterator, List, Sequence

import numpy as np

from ...compat.image_values import Values
from ..findings import SPOILING_SHARE, Finding, finding_of
from ..split_checks import missing_finding
from .scan import ImageFile
from .sources import Source


def image_findings(source: Source, files: Dict[str, ImageFile], *, missing_told: bool) -> Iterator[Finding]:
    """Faults of the image files of a dataset.

    Args:
        source (Source): The dataset.
        files (dict[str, ImageFile]): Files that were read, by path.
        missing_told (bool): Whether missing images were reported before.

    Yields:
        Finding: Each fault once.
    """
    read = [path for path in dict.fromkeys(source.paths) if path in files]
    missing = [path for path in read if files[path].fault == 'missing']
    if missing and not missing_told:
        yield missing_finding(missing, len(read), source.where, allowed=source.loading['ignore_empty'])
    damaged = [path for path in read if files[path].fault not in ('', 'missing')]
    if damaged:
        yield finding_of(
            damaged, 'unreadable-images', 'error', source.where, f'of {len(read)} images are damaged or '
            'cannot be read', 'replace them, or remove them from the annotation file',
            words=lambda path: f'{path}: {files[path].fault}')
    yield from _value_findings(source, files, read)
    yield from _size_findings(source, files)
    turned = [path for path in read if files[path].orientation != 1 and files[path].size]
    if turned and source.loading['color_type'] == 'color':
        yield finding_of(turned, 'exif', 'note', source.where, 'images have an EXIF orientation; they are '
                         'turned when they are read, so their boxes must be those of the turned images')


def copy_findings(sources: Sequence[Source], files: Dict[str, ImageFile]) -> Iterator[Finding]:
    """Images with equal content and different names, within a split and between training and evaluation."""
    splits = _by_split(sources, files)
    done = set()
    for split, by_digest in splits.items():
        groups = [paths for paths in by_digest.values() if len(paths) > 1]
        told = tuple(sorted(map(tuple, groups)))
        if groups and told not in done:
            yield finding_of(
                groups, 'same-images', 'warning', _where(sources, split), 'images are stored under several '
                'names, with the same bytes', 'keep one of each, with all its annotations',
                words=lambda paths: ' = '.join(paths[:3]))
        done.add(told)
    train = splits.get('train', {})
    shown = set()
    for split, by_digest in splits.items():
        shared = sorted(set(by_digest) & set(train)) if split != 'train' else []
        if not shared or tuple(shared) in shown:
            continue
        shown.add(tuple(shared))
        share = len(shared) / len(by_digest)
        yield finding_of(
            [f'{by_digest[digest][0]} = {train[digest][0]}' for digest in shared], 'leakage',
            'error' if share > SPOILING_SHARE else 'warning', _where(sources, split),
            f'of {len(by_digest)} images ({100 * share:.3g} %) are in the training set too, with the same '
            'bytes', 'remove them from one of the two: AP of training images means nothing')


def _value_findings(source, files, read) -> Iterator[Finding]:
    """Images that can be read without an error but lose their content."""
    by_kind: Dict[str, Values] = {}
    for path in read:
        values = files[path].values
        if values is not None:
            by_kind[values.kind] = by_kind.get(values.kind, values) | values
    for kind, values in by_kind.items():
        # If other images of the set use all bits, the images that do not are only dark.
        theirs = [path for path in read
                  if (own := files[path].values) and own.kind == kind and files[path].size]
        if values.are_lost and theirs:
            yield finding_of(theirs, 'unused-bits', 'warning', source.where, f'of {len(read)} images have '
                             f'{values.words}, but only 8 bits are kept, with little content', values.setting)
    lost = {path for path in read if (own := files[path].values) and by_kind[own.kind].are_lost}
    flat = [path for path in read if files[path].flat and path not in lost]
    if flat:
        yield finding_of(
            flat, 'flat-images', 'warning' if len(flat) > SPOILING_SHARE * len(read) else 'note',
            source.where,
            f'of {len(read)} images have nearly one colour', 'check them, and replace them or remove them '
            'from the annotation file')


def _size_findings(source, files) -> Iterator[Finding]:
    reasons = []
    for path, size in zip(source.paths, source.sizes):
        image = files.get(path)
        if image is None or image.size is None or np.isnan(size).any() or tuple(size) == image.size:
            continue
        theirs, ours = (f'{width:g}x{height:g}' for width, height in (size, image.size))
        why = ''
        if tuple(size[::-1]) == image.size:
            turned = image.orientation >= 5 and source.loading['color_type'] == 'color'
            why = ', turned by its EXIF orientation' if turned else ', with width and height exchanged'
        reasons.append(f'{path} is {ours}, annotated as {theirs}{why}')
    read = sum(path in files for path in source.paths)
    if reasons:
        yield finding_of(
            reasons, 'image-size', 'error' if len(reasons) > SPOILING_SHARE * read else 'warning',
            source.where,
            f'of {read} images have another size than annotated, so their boxes probably belong to another '
            'image', 'correct width and height, and check whether the boxes fit; save images with an EXIF '
            'orientation upright')


def _by_split(sources, files) -> Dict[str, Dict[str, List[str]]]:
    """Paths by hash for each split."""
    splits, seen = {}, set()
    for source in sources:
        # Two paths to the same file are no copies.
        real = {path: osp.realpath(path) for path in source.paths if path in files}
        for split in source.splits:
            by_digest = splits.setdefault(split, defaultdict(list))
            for path in real:
                digest = files[path].digest
                if digest and (split, real[path]) not in seen:
                    by_digest[digest].append(path)
                seen.add((split, real[path]))
    return splits


def _where(sources, split) -> str:
    return next(source.where for source in sources if split in source.splits)
