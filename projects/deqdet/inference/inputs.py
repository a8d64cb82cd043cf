"""What there is to detect in: files, folders, globs, addresses, and the names of the results."""

import glob
import os
import os.path as osp
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Iterable, Iterator, List, Optional, Set, Tuple, Union
from urllib.parse import urlsplit

from mmdet.apis.det_inferencer import IMG_EXTENSIONS

from ..errors import UsageError
from .journals import has_journal

#: What is taken as an image in folders; of an animated GIF its first picture.
IMAGES = (*IMG_EXTENSIONS, '.gif')

#: What is taken as a video without being opened.
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')

#: Folder of pictures and videos with boxes, below that of the results, as mmdet has it.
PICTURES = 'vis'

# What pictures are written as under their own names; others get one more ending.
_WRITTEN = ('.jpg', '.jpeg', '.png')

Word = Union[str, Path]


@dataclass(frozen=True)
class Source:
    """An image file.

    Attributes:
        path (str): Absolute path, or address.
        name (str): Name in results, of its own among all: the path below the folder that was given, or the
            file name; where two would be equal, with as many folders before it as needed.
    """

    path: str
    name: str


def picture_name(name: str) -> str:
    """Name of the picture with the boxes of an image, by its ending one that OpenCV writes everywhere."""
    return name if name.lower().endswith(_WRITTEN) else f'{name}.png'


def is_video(word: Word) -> bool:
    """Whether a word names a video file, by its ending."""
    return str(word).lower().endswith(VIDEOS) and not is_address(word) and not osp.isdir(word)


def is_address(word: Word) -> bool:
    """Whether a word is a URL."""
    return '://' in str(word)


def collect(words: Iterable[Word], *, leave_out: Optional[Word] = None, taken: Iterable[str] = ()
            ) -> List[Source]:
    """All images, each once.

    Args:
        words (Iterable[str or Path]): Files, folders (with all folders below them; hidden files and what does
            not end as images do are passed over), globs (``**`` is any folders), URLs. Pictures that an
            earlier run has drawn are passed over, too, unless the word names their folder.
        leave_out (str or Path, optional): A folder that is not searched: that of the results.
        taken (Iterable[str]): Names that are given away.

    Returns:
        list[Source]: In the order of the words, those of a folder or a glob by their paths.

    Raises:
        UsageError: If a word names nothing.
    """
    found, seen, names = [], set(), set(taken)
    for word in words:
        for path, name in _files_of(str(word), leave_out):
            real = path if is_address(path) else osp.realpath(path)
            if real not in seen:
                seen.add(real)
                found.append(Source(path, _unique(path, name, names)))
    return found


def _files_of(word, leave_out) -> Iterator[Tuple[str, str]]:
    """Absolute path and name of each file behind a word."""
    if is_address(word):
        yield word, PurePosixPath(urlsplit(word).path).name or 'image'
        return
    path = osp.expanduser(word)
    if osp.isdir(path):
        files = list(_images_below(path, leave_out))
        if not files:
            raise UsageError(f'{word}: no images in this folder or below it (files ending in '
                             f'{" ".join(IMAGES)})')
        for file in files:
            yield osp.abspath(file), Path(osp.relpath(file, path)).as_posix()
    elif osp.lexists(path):
        yield osp.abspath(path), osp.basename(path)
    elif glob.has_magic(path):
        files = sorted(file for file in glob.glob(path, recursive=True)
                       if not osp.isdir(file) and not _drawn(file, path))
        if not files:
            raise UsageError(f'{word}: nothing fits this pattern (looked for from {osp.abspath("")})')
        for file in files:
            yield osp.abspath(file), osp.basename(file)
    else:
        raise UsageError(f'no file or folder {word} (looked for from {osp.abspath("")})')


def _images_below(folder, leave_out) -> Iterator[str]:
    left_out = leave_out and osp.realpath(leave_out)
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith('.')
                            and osp.realpath(osp.join(parent, each)) != left_out
                            and not _is_drawn(osp.join(parent, each)))
        for file in sorted(files):
            if file.lower().endswith(IMAGES) and not file.startswith('.'):
                yield osp.join(parent, file)


def _drawn(file, pattern) -> bool:
    """Whether a file is a picture of an earlier run, in a folder that the pattern does not name."""
    parts = Path(pattern).parts
    named = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    folders = Path(file).parts[:-1]
    return any(_is_drawn(osp.join(*folders[:count])) for count in range(named + 1, len(folders) + 1))


def _is_drawn(folder) -> bool:
    """Whether a folder has the pictures of a run."""
    return osp.basename(folder) == PICTURES and has_journal(osp.dirname(folder))


def _unique(path: str, name: str, names: Set[str]) -> str:
    """A name that is not given away, and gives away no picture either; more and more of the path."""
    parts = [part for part in PurePosixPath(Path(path).as_posix()).parts if part.strip('/:')]
    for count in range(len(PurePosixPath(name).parts), len(parts) + 1):
        longer = name if count == len(PurePosixPath(name).parts) else '/'.join(parts[-count:])
        if longer not in names and picture_name(longer) not in names:
            break
    names.update((longer, picture_name(longer)))
    return longer
