"""Find the inputs: files, folders, globs and addresses. Name their results."""

import glob
import os
import os.path as osp
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple
from urllib.parse import urlsplit

from ..data.findings import some_of
from ..errors import UsageError
from .formats import Word, check_source, is_address, is_image_name, is_noise, is_video
from .journal import NAME, has_journal, part_journals
from .painting import picture_name

#: Folder of images and videos with boxes, below the results folder, as in mmdet.
PICTURES = 'vis'

# Files beside the folder of pictures that show that a run wrote it.
_RESULTS = (NAME, 'detections.json')


@dataclass(frozen=True)
class Input:
    """An image or a video.

    Attributes:
        path (str): Absolute path, or address. For a video in a folder of frames: the folder.
        name (str): Unique name in the results: the path below the given folder, or the file name. If two
            would be equal, parent folders are added until they differ.
    """

    path: str
    name: str


class Found(NamedTuple):
    """The inputs that command-line words name.

    Attributes:
        inputs (list[Input]): The images or videos, each once.
        skipped (Counter): Number of files in folders that are not images, by extension.
    """

    inputs: List[Input]
    skipped: Mapping[str, int]


def find(words: Iterable[Word], *, leave_out: Optional[Word] = None, taken: Iterable[str] = ()) -> Found:
    """Find all images, each once.

    Links to files and folders are followed. A folder with several paths is searched once, under its own path
    if the word leads there, so circular links do no harm. Broken links and unreadable folders are among the
    images; they are reported when they are read.

    Args:
        words (Iterable[str or Path]): Files, folders (searched with all subfolders; hidden files and files
            without an image extension are skipped), globs (``**`` matches any folders), URLs. Pictures that
            an earlier run has drawn are also skipped, unless the word names their folder.
        leave_out (str or Path, optional): A folder to exclude: the results folder.
        taken (Iterable[str]): Names that are already used.

    Returns:
        Found: Images in the order of the words; those of a folder or a glob are sorted by path.

    Raises:
        UsageError: If a word matches nothing, or names a stream or a camera.
    """
    found, seen, names = [], set(), set(taken)
    skipped: Counter = Counter()
    for word in words:
        for path, name in _files_of(str(word), leave_out, skipped):
            real = path if is_address(path) else osp.realpath(path)
            if real not in seen:
                seen.add(real)
                found.append(Input(path, _unique(path, name, names)))
    return Found(found, skipped)


def find_videos(words: Iterable[str], *, folders: bool) -> Found:
    """Find all videos, each once.

    Args:
        words (Iterable[str]): Files.
        folders (bool): Also accept folders, as videos whose frames are the images in them.

    Raises:
        UsageError: If a word does not name a video.
    """
    found: Dict[str, Input] = {}
    names: Set[str] = set()
    skipped: Counter = Counter()
    for word in words:
        check_source(word)
        path = Path(word).expanduser()
        if path.is_dir() and folders:
            skipped.update(split_names(os.listdir(path))[1])
            paths = [str(path.resolve())]
        elif is_video(word):
            paths = [each.path for each in find([word]).inputs]
        else:
            raise UsageError(f'{word} is not a video' + (
                ' or a folder of frames' if folders else
                ': use another command for images, and --frames for a folder of frames'), 'bad-argument')
        found.update({each: Input(each, _unique(each, osp.basename(each), names))
                      for each in paths if each not in found})
    return Found(list(found.values()), skipped)


def split_names(names: Iterable[str]) -> Tuple[List[str], Counter]:
    """The image names of a folder, sorted, and the number of other names by extension.

    Hidden files and files that systems leave in folders are in neither.
    """
    shown = sorted(name for name in names if not is_noise(name))
    images = [name for name in shown if is_image_name(name)]
    return images, Counter(osp.splitext(name)[1].lower() or 'without extension'
                           for name in shown if not is_image_name(name))


def in_words(skipped: Mapping[str, int]) -> str:
    """Describe skipped files, the most frequent extensions first: ``3 .txt, 1 .mp4``."""
    counts = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    return some_of([f'{count} {ending}' for ending, count in counts], 5)


def _files_of(word, leave_out, skipped) -> Iterator[Tuple[str, str]]:
    """Absolute path and name of each file that a word matches."""
    check_source(word)
    if is_address(word):
        yield word, PurePosixPath(urlsplit(word).path).name or 'image'
        return
    path = osp.expanduser(word)
    if osp.isdir(path):
        others: Counter = Counter()
        files = list(_images_below(path, leave_out, others))
        skipped.update(others)
        if not files:
            content = f'it has {in_words(others)}; use the paths of videos' if others else 'it is empty'
            raise UsageError(f'{word}: no images in this folder or its subfolders ({content})',
                             'missing-file')
        for file in files:
            yield osp.abspath(file), Path(osp.relpath(file, path)).as_posix()
    elif osp.lexists(path):
        yield osp.abspath(path), osp.basename(path)
    elif glob.has_magic(path):
        files = sorted(file for file in glob.glob(path, recursive=True)
                       if not osp.isdir(file) and not is_noise(osp.basename(file)) and not _drawn(file, path))
        if not files:
            raise UsageError(f'{word}: no file matches this pattern (searched from {osp.abspath("")})',
                             'missing-file')
        for file in files:
            yield osp.abspath(file), osp.basename(file)
    else:
        raise UsageError(f'{word} does not exist (searched from {osp.abspath("")})', 'missing-file')


def _images_below(top, leave_out, skipped) -> Iterator[str]:
    """Images in a folder and its subfolders, then the unreadable folders; counts the other files."""
    left_out = leave_out and osp.realpath(leave_out)
    unreadable: List[str] = []
    linked: Set[str] = set()

    def searched(path) -> bool:
        return osp.realpath(path) != left_out and not is_noise(osp.basename(path)) and not _is_drawn(path)

    def is_new(path) -> bool:
        """Whether a folder has no other path, or is reached for the first time through this link."""
        if not osp.islink(path) and osp.dirname(path) not in linked:
            return True
        linked.add(path)
        known, real = len(reached), osp.realpath(path)
        reached.add(real)
        return len(reached) > known

    # A folder is searched under its own path if it is below the top without a link.
    reached = {osp.realpath(top)}
    for folder, folders, _ in os.walk(top):
        folders[:] = [name for name in folders if searched(osp.join(folder, name))]
        reached.update(osp.realpath(osp.join(folder, name)) for name in folders
                       if not osp.islink(osp.join(folder, name)))
    for folder, folders, names in os.walk(
            top, followlinks=True, onerror=lambda error: unreadable.append(str(error.filename))):
        folders[:] = [name for name in sorted(folders) if searched(osp.join(folder, name))
                      and is_new(osp.join(folder, name))]
        files = set(names)
        if has_journal(folder):
            files -= {*_RESULTS, *(path.name for path in part_journals(Path(folder)))}
        lost = {name for name in files if not osp.splitext(name)[1] and _is_broken_link(folder, name)}
        images, others = split_names(files - lost)
        skipped.update(others)
        yield from (osp.join(folder, name) for name in sorted([*images, *lost]))
    yield from unreadable  # the error is reported when it is read


def _is_broken_link(folder, name) -> bool:
    path = osp.join(folder, name)
    return osp.islink(path) and not osp.exists(path) and not is_noise(name)


def _drawn(file, pattern) -> bool:
    """Whether an earlier run drew this file, and the pattern does not name its folder."""
    parts = Path(pattern).parts
    named = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    folders = Path(file).parts[:-1]
    return any(_is_drawn(osp.join(*folders[:count])) for count in range(named + 1, len(folders) + 1))


def _is_drawn(folder) -> bool:
    """Whether a folder contains the pictures of a run."""
    return osp.basename(folder) == PICTURES and has_journal(osp.dirname(folder))


def _unique(path: str, name: str, names: Set[str]) -> str:
    """Add parent folders to a name until both the name and its picture are unique."""
    parts = [part for part in PurePosixPath(Path(path).as_posix()).parts if part.strip('/:')]
    for count in range(len(PurePosixPath(name).parts), len(parts) + 1):
        longer = name if count == len(PurePosixPath(name).parts) else '/'.join(parts[-count:])
        if longer not in names and picture_name(longer) not in names:
            break
    names.update((longer, picture_name(longer)))
    return longer
