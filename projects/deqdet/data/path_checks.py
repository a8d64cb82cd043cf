"""Image names that lead outside the data, and data files that could run code."""

import os
import os.path as osp
import unicodedata
from typing import Iterator

from mmengine.config import Config

from ..compat.checkpoint_loading import FORCE_UNSAFE
from .annotations import AnnotationSummary
from .data_configs import CocoSource, joined, leaves_of
from .findings import Finding, finding_of
from .name_hints import name_hint

#: If one of these checks fails, none of the data may be opened.
CLOSED = ('image-names', 'image-outside', 'pickle')

_PICKLES = ('.pkl', '.pickle')


def name_findings(source: CocoSource, summary: AnnotationSummary) -> Iterator[Finding]:
    """Image names of an annotation file that leave the data, or are no file names: errors, each once.

    All images must be below ``data_root``, or below ``data_prefix`` if that is an absolute path elsewhere.
    Only the text of the path counts. ``..`` and absolute names may be used inside. Links of files and folders
    may lead anywhere, because the user made them. Without ``data_root`` and ``data_prefix`` the file may name
    any image of the machine: in this way the user trusts the file.
    """
    odd = [name for name in summary.table.file_names if not _is_name(name)]
    if odd:
        yield finding_of(
            odd, 'image-names', 'error', source.where, 'image names are not file names, because they are '
            'empty or have line breaks or invisible characters', 'correct file_name', words=_plain)
    urls = [name for name in summary.table.file_names if '://' in name]
    if urls and '://' not in source.image_folder:
        yield finding_of(
            urls, 'image-names', 'error', source.where, 'image names are URLs, but images are read from '
            'disk', _hint(source, urls) or 'download them, and write the names of the files')
    root = _root(source)
    outside = [] if root is None else [name for name in summary.table.file_names if '://' not in name
                                       and not _below(root, osp.join(source.image_folder, name))]
    if outside:
        yield finding_of(
            outside, 'image-outside', 'error', source.where, f'image names are outside {root}',
            _hint(source, outside) or 'correct file_name, or set data_root to a folder with all images; '
            "data_root='' and data_prefix=dict(img='') allow any image", words=_plain)


def pickle_findings(cfg: Config, split: str) -> Iterator[Finding]:
    """Files that a dataset would unpickle, which can run any code; none with ``--trust-checkpoint``."""
    if os.environ.get(FORCE_UNSAFE):
        return
    for key, dataset in leaves_of(cfg, split):
        for name, value in dataset.items():
            if isinstance(value, str) and value.lower().endswith(_PICKLES):
                yield Finding(
                    'pickle', 'error', f'{key}.{name}', f'{joined(dataset, value)} is a pickle file, which '
                    'could run any code', 'use a JSON file, or --trust-checkpoint if you trust its source', 1)


def _hint(source, names) -> str:
    """How to write the names, if another form of them is in the image folder."""
    # "../0.png" is another file than "0.png", so a relative name outside gets no hint.
    if '://' in source.image_folder or not all('://' in name or osp.isabs(name) for name in names):
        return ''
    return name_hint(source.image_folder, names, inside=True)


def _is_name(name: str) -> bool:
    # Control characters, line breaks, and lone surrogates, which JSON can hold but no file system. Real names
    # do contain other invisible characters, such as odd spaces.
    return bool(name) and not any(unicodedata.category(letter) in ('Cc', 'Cs', 'Zl', 'Zp') for letter in name)


def _plain(name) -> str:
    return ascii(name)[1:-1]


def _root(source):
    """The folder that must hold all images; None if the config names none."""
    root, folder = source.dataset.get('data_root') or '', source.image_folder
    if not folder or '://' in folder:
        return None
    return root if root and _below(root, folder) else folder


def _below(root, path) -> bool:
    """Whether the text of a path is inside a folder; links are not followed."""
    root = osp.abspath(root)
    return osp.commonpath([root, osp.abspath(path)]) == root
